// The worker of one's devices' tunnels: sockets and paths, the mesh, and the TUN where there is one.

import { parentPort, workerData } from 'node:worker_threads'
import { copyBytes } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import { MESH_HEADROOM, MESH_MTU, MESH_TAILROOM, Mesh } from '#mesh/mesh.ts'
import type { Address } from '#wire/address.ts'
import { decodePathOffer } from '#wire/path-offer.ts'
import { monotonicMs } from './clock.ts'
import type { MeshTun } from './linux/mesh-tun.ts'
import { type MeetingPort, openMeetingPort, otherEnd } from './meeting-port.ts'
import type { LinkPeer, MeshEvent, MeshOrder, MeshWish, MeshWorkerData } from './mesh-engine.ts'
import { PathShell } from './path-shell.ts'

/** Generations of an offer within one epoch. */
const EPOCH = 2 ** 20
const MAX_HOSTS = 256

const port = parentPort
if (port === null) throw new Error('start the tunnels: not in a worker')
const settings = workerData as MeshWorkerData
const tell = (event: MeshEvent) => port.postMessage(event)

let tun: MeshTun | undefined
const { link } = settings
if (link !== undefined && 'fd' in link) {
  const { runMeshTun } = await import('./linux/mesh-tun.ts')
  tun = runMeshTun(link.fd, {
    ...{ stays: link.stays, mtu: MESH_MTU, headroom: MESH_HEADROOM, tailroom: MESH_TAILROOM },
    onPacket: (buffer, offset, length) => {
      mesh.send(buffer, offset, length, monotonicMs())
      arm()
    },
  })
}
const write = tun?.write

/** Marks are for who may make an interface too. */
const marking =
  settings.mark !== 0 && !settings.asksForSockets && process.platform === 'linux'
    ? await import('./linux/socket-mark.ts').catch(() => undefined)
    : undefined
/** Sockets that were asked for. */
const awaited = new Map<number, (fd: number) => void>()
let nextRequest = 1
function askForSocket(family: 4 | 6, at: number): Promise<number> {
  const request = nextRequest++
  port?.postMessage({ kind: 'socket', request, family, port: at } satisfies MeshWish)
  return new Promise(resolve => awaited.set(request, resolve))
}

/** The last hosts that something was sent to. */
const hosts: string[] = []
let toldHosts = false
function handleHost(host: string): void {
  hosts.push(host)
  if (hosts.length > MAX_HOSTS) hosts.shift()
  if (toldHosts) return
  // A round of checks goes to many at once.
  toldHosts = true
  queueMicrotask(() => {
    toldHosts = false
    tell({ kind: 'hosts', hosts: [...hosts] })
  })
}

/** Peers with a path. */
const reached = new Set<number>()
const shell = new PathShell({
  random: systemRandom,
  stunServers: settings.stunServers,
  turnServers: settings.turnServers,
  learnsLifetime: true,
  mapsPorts: settings.mapsPorts,
  onHost: handleHost,
  ...(settings.asksForSockets && { openSocket: askForSocket }),
  ...(marking !== undefined && { onSocket: socket => void marking.markSocket(socket, settings.mark) }),
  onOffer: (peer, offer) => tell({ kind: 'offer', peer, offer }),
  onPath: (peer, path) => {
    const meeting = meetings.get(peer)
    const to = meeting !== undefined && path?.local === meeting.local ? meeting.relay : path?.to
    tell({ kind: 'path', peer, path: path && to && { kind: path.kind, to } })
    if (path === undefined) reached.delete(peer)
    else {
      reached.add(peer)
      mesh.handlePath(peer, monotonicMs())
    }
    arm()
  },
  onPacket: ({ bytes, local, from }) => {
    mesh.receive(bytes, { local, from }, monotonicMs())
    arm()
  },
})

const mesh = new Mesh({
  privateKey: settings.privateKey,
  addresses: [settings.ipv6, ...(settings.ipv4 === undefined ? [] : [settings.ipv4])],
  random: systemRandom,
  unixOffsetMs: Date.now() - monotonicMs(),
  // What is sealed lies in memory that is used again: a socket that is busy keeps what it is given.
  toPeer: (peer, bytes) => void shell.send(peer, copyBytes(bytes)),
  toOrigin: ({ local, from }, bytes) => shell.answer(local, from, copyBytes(bytes)),
  onSecret: (peer, isAgreed) => tell({ kind: 'secret', peer, isAgreed }),
  ...(write !== undefined && { toTunnel: write }),
})

let armedMs = Number.POSITIVE_INFINITY
let timer: NodeJS.Timeout | undefined
function arm(): void {
  const due = mesh.deadline()
  if (due >= armedMs) return
  armedMs = due
  clearTimeout(timer)
  timer = setTimeout(
    () => {
      armedMs = Number.POSITIVE_INFINITY
      mesh.handleDeadline(monotonicMs())
      arm()
    },
    Math.max(due - monotonicMs(), 0),
  )
}

const linked = new Set<number>()
function setPeers(privateKey: Uint8Array, peers: readonly LinkPeer[]): void {
  const now = monotonicMs()
  mesh.setPrivateKey(privateKey)
  mesh.setPeers(peers, now)
  const wanted = new Set(peers.map(({ peer }) => peer))
  for (const peer of linked) {
    if (wanted.has(peer)) continue
    linked.delete(peer)
    endMeeting(peer)
    shell.disconnect(peer)
  }
  for (const { peer, isControlling, isPlain } of peers) {
    if (isPlain === true) continue
    if (linked.has(peer)) {
      // New keys: the session begins anew along the path that is there.
      if (reached.has(peer)) mesh.handlePath(peer, now)
      continue
    }
    if (shell.do((endpoint, at) => endpoint.connect(peer, isControlling, at))) linked.add(peer)
  }
  const ipv4 = peers.flatMap(({ addresses }) => addresses.filter(address => !address.includes(':')))
  if (tun !== undefined) port?.postMessage({ kind: 'routes', ipv4 } satisfies MeshWish)
  arm()
}

/** What peers are met by at relays. */
const meetings = new Map<number, { readonly local: number; readonly relay: Address; readonly close: () => void }>()
function meet(peer: number, meeting: MeetingPort): void {
  endMeeting(peer)
  const to = otherEnd(meeting)
  const { send, close } = openMeetingPort(meeting, bytes => shell.deliver(bytes, to, local))
  const local = shell.attachMeeting(peer, to, (_to, bytes) => send(bytes))
  meetings.set(peer, { local, relay: meeting.relay, close })
}

function endMeeting(peer: number): void {
  const meeting = meetings.get(peer)
  if (meeting === undefined) return
  meetings.delete(peer)
  shell.detach(meeting.local)
  meeting.close()
}

function carryOut(order: MeshOrder): void {
  const now = monotonicMs()
  switch (order.kind) {
    case 'peers':
      return setPeers(order.privateKey, order.peers)
    case 'offer': {
      const offer = decodePathOffer(order.offer)
      if (offer === undefined) return
      const generation = order.epoch * EPOCH + Math.min(offer.generation, EPOCH - 1)
      return shell.do((endpoint, at) => endpoint.handleOffer(order.peer, { ...offer, generation }, at))
    }
    case 'restart':
      mesh.restart(order.peer, now)
      return shell.do((endpoint, at) => endpoint.restart(order.peer, at))
    case 'meeting':
      return meet(order.peer, order.meeting)
    case 'endMeeting':
      return endMeeting(order.peer)
    case 'ping':
      mesh.ping(order.peer, now, rttMs => tell({ kind: 'pong', request: order.request, rttMs }))
      return arm()
    case 'socket':
      awaited.get(order.request)?.(order.fd)
      return void awaited.delete(order.request)
    case 'status':
      return tell({ kind: 'status', request: order.request, peers: mesh.status(now), refused: mesh.refused })
  }
}

/** What came before there were sockets. */
const early: (MeshOrder | 'close')[] = []
let isListening = false
function handle(order: MeshOrder | 'close'): void {
  if (order !== 'close') return carryOut(order)
  void (async () => {
    clearTimeout(timer)
    for (const { close } of meetings.values()) close()
    mesh.close()
    await shell[Symbol.asyncDispose]()
    await tun?.close()
    process.exit(0)
  })()
}
port.on('message', (order: MeshOrder | 'close') => {
  const isAwaited = order !== 'close' && order.kind === 'socket'
  if (isListening || isAwaited) handle(order)
  else early.push(order)
})

let boundPort = 0
for (const family of [4, 6] as const) {
  const bound = await shell
    .listen(family, settings.port)
    .catch(() => shell.listen(family))
    .catch(() => undefined)
  boundPort ||= bound?.port ?? 0
}

isListening = true
tell({
  kind: 'ready',
  port: boundPort,
  ...(link !== undefined && ('fd' in link ? { interface: link.name } : link)),
})
for (const order of early) handle(order)
