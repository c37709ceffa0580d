// The thread of one's devices' paths: checks, offers, the router at home, meetings at relays. Packets are the mesh plane's
// (mesh-plane.ts), which has the sockets, the tunnels and the TUN, and does what is ordered here.

import { parentPort, workerData } from 'node:worker_threads'
import { systemRandom } from '#crypto/random.ts'
import type { Path } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'
import { decodePathOffer } from '#wire/path-offer.ts'
import { type MeetingPort, otherEnd } from '../meeting-port.ts'
import type { LinkPeer, MeshEvent, MeshOrder, MeshWish, MeshWorkerData } from './mesh-engine.ts'
import type { MeshPlaneReport } from './mesh-plane-orders.ts'
import { type RunningMeshPlane, startMeshPlane, startPortableMeshPlane } from './mesh-plane-thread.ts'
import { PathShell } from './path-shell.ts'
import { PlaneSockets } from './plane-sockets.ts'

/** Generations of an offer within one epoch. */
const EPOCH = 2 ** 20
const MAX_HOSTS = 256

const port = parentPort
if (port === null) throw new Error('start the tunnels: not in a worker')
const settings = workerData as MeshWorkerData
const { link } = settings
const tun = link !== undefined && 'fd' in link ? link : undefined
const tell = (event: MeshEvent) => port.postMessage(event)
const plane = startPlane()

function startPlane(): RunningMeshPlane {
  const { privateKey, ipv6, ipv4, turnServers, engine, mark } = settings
  const addresses = ipv4 === undefined ? [ipv6] : [ipv6, ipv4]
  const ours = { privateKey, addresses, turnServers: turnServers.map(({ address }) => address) }
  const isPortable = tun === undefined && (engine === 'portable' || process.platform !== 'linux')
  if (isPortable) return startPortableMeshPlane(ours, hear)
  try {
    return startMeshPlane({ ...ours, tun, mark: settings.asksForSockets ? 0 : mark }, hear)
  } catch (error) {
    if (tun !== undefined || engine === 'linux') throw error
    return startPortableMeshPlane(ours, hear)
  }
}

function hear(report: MeshPlaneReport): void {
  switch (report.kind) {
    case 'opened':
      return sockets?.handleOpened(report.local, report.port)
    case 'datagram':
      return shell.deliver(report.bytes, report.from, report.local)
    case 'traffic':
      shell.do((endpoint, now) => endpoint.handleTraffic(report.peer, now))
      return followChannel(report.peer)
    case 'outward':
      shell.do((endpoint, now) => endpoint.send(report.peer, report.bytes, now))
      return followChannel(report.peer)
    case 'host':
      return handleHost(report.host)
    default:
      return tell(report)
  }
}

/** Sockets that were asked for. */
const awaited = new Map<number, (fd: number) => void>()
let nextRequest = 1
function askForSocket(family: 4 | 6, at: number): Promise<number> {
  if (!settings.asksForSockets) return Promise.resolve(-1)
  const request = nextRequest++
  port?.postMessage({ kind: 'socket', request, family, port: at } satisfies MeshWish)
  return new Promise(resolve => awaited.set(request, resolve))
}

/** The last hosts that something was sent to. */
const hosts: string[] = []
let toldHosts = false
function handleHost(host: string): void {
  if (hosts.includes(host)) return
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

/** Paths as the plane knows them. */
const paths = new Map<number, Path>()
function setPath(peer: number, path: Path | undefined): void {
  if (path === undefined) paths.delete(peer)
  else paths.set(peer, path)
  plane.order({ kind: 'path', peer, path })
}

/** A TURN server binds a channel some time after the path is there, and may forget it: then packets go another way. */
function followChannel(peer: number): void {
  const known = paths.get(peer)
  if (known?.kind !== 'turn') return
  const path = shell.do((endpoint, now) => endpoint.path(peer, now))
  if (path?.kind === 'turn' && path.channel !== known.channel) setPath(peer, path)
}

let sockets: PlaneSockets | undefined
const shell = new PathShell({
  random: systemRandom,
  stunServers: settings.stunServers,
  turnServers: settings.turnServers,
  learnsLifetime: true,
  mapsPorts: settings.mapsPorts,
  onHost: handleHost,
  sockets: () => (sockets = new PlaneSockets(plane, askForSocket)),
  onOffer: (peer, offer) => tell({ kind: 'offer', peer, offer }),
  onPath: (peer, path) => {
    const meeting = meetings.get(peer)
    const to = meeting !== undefined && path?.local === meeting.local ? meeting.relay : path?.to
    tell({ kind: 'path', peer, path: path && to && { kind: path.kind, to } })
    setPath(peer, path)
  },
  onPacket: ({ bytes, local, from }) => plane.order({ kind: 'packet', local, from, bytes }),
})

const linked = new Set<number>()
function setPeers(privateKey: Uint8Array, peers: readonly LinkPeer[]): void {
  plane.order({ kind: 'peers', privateKey, peers })
  const wanted = new Set(peers.map(({ peer }) => peer))
  for (const peer of linked) {
    if (wanted.has(peer)) continue
    linked.delete(peer)
    paths.delete(peer)
    endMeeting(peer)
    shell.disconnect(peer)
  }
  for (const { peer, isControlling, isPlain } of peers) {
    if (isPlain === true || linked.has(peer)) continue
    if (shell.do((endpoint, at) => endpoint.connect(peer, isControlling, at))) linked.add(peer)
  }
  const ipv4 = peers.flatMap(({ addresses }) => addresses.filter(address => !address.includes(':')))
  if (tun !== undefined) port?.postMessage({ kind: 'routes', ipv4 } satisfies MeshWish)
}

/** What peers are met by at relays. */
const meetings = new Map<number, { readonly local: number; readonly relay: Address }>()
function meet(peer: number, meeting: MeetingPort): void {
  endMeeting(peer)
  const from = otherEnd(meeting)
  const local = shell.attachMeeting(peer, from, own => {
    plane.order({ kind: 'openMeeting', local: own, at: meeting.address, from })
    return (to, bytes) => plane.order({ kind: 'send', local: own, to, bytes })
  })
  meetings.set(peer, { local, relay: meeting.relay })
}

function endMeeting(peer: number): void {
  const meeting = meetings.get(peer)
  if (meeting === undefined) return
  meetings.delete(peer)
  shell.detach(meeting.local)
  plane.order({ kind: 'close', local: meeting.local })
}

function carryOut(order: MeshOrder): void {
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
      plane.order({ kind: 'restart', peer: order.peer })
      return shell.do((endpoint, at) => endpoint.restart(order.peer, at))
    case 'meeting':
      return meet(order.peer, order.meeting)
    case 'endMeeting':
      return endMeeting(order.peer)
    case 'ping':
    case 'status':
      return plane.order(order)
    case 'socket':
      awaited.get(order.request)?.(order.fd)
      return void awaited.delete(order.request)
  }
}

/** What came before there were sockets. */
const early: (MeshOrder | 'close')[] = []
let isListening = false
function handle(order: MeshOrder | 'close'): void {
  if (order !== 'close') return carryOut(order)
  void (async () => {
    // What ends in order says so by the sockets: those go last.
    await shell[Symbol.asyncDispose]()
    await plane.close()
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
  ...(tun !== undefined ? { interface: tun.name } : link),
})
for (const order of early) handle(order)
