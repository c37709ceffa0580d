// Two mesh planes over sockets of a test: what goes out of which, behind which header, and what is told.

import assert from 'node:assert/strict'
import test from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { Counters } from '#forward/counters.ts'
import { HEADROOM, Slab } from '#forward/slab.ts'
import type { MeshPeer } from '#mesh/mesh.ts'
import type { Path } from '#path/ground.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { type Address, parseIp } from '#wire/address.ts'
import { echoRequest } from '#wire/icmp-echo.ts'
import { encodeStun, isStun, STUN_METHOD } from '#wire/stun.ts'
import { writeChannelHeader } from '#wire/stun-value.ts'
import type { SocketHandlers, SocketPlan } from '../datagrams.ts'
import { MEETING_HEADER } from '../meeting-port.ts'
import { MeshPlane } from './mesh-plane.ts'
import type { MeshPlaneReport } from './mesh-plane-orders.ts'

const PSK = new Uint8Array(32).fill(9)
const TURN: Address = { host: '192.0.2.9', port: 3_478 }
const THERE: Address = { host: '198.51.100.2', port: 41_000 }
const RELAYED: Address = { host: '100::1', port: 1 }
const CHANNEL = 0x4001
const SOCKET = 1_000
const MEETING = 1_001
const BINDING = encodeStun({
  class: 'request',
  method: STUN_METHOD.binding,
  transaction: new Uint8Array(12),
  attributes: [],
})

interface Sent {
  readonly port: number
  readonly to: Address | undefined
  readonly bytes: Uint8Array
}

/** One with a socket of port 41000 and a meeting at port 7 of loopback. */
class Side {
  now = 1_000
  /** Whether the paths' thread is busy. */
  isSlow = false
  readonly checks: { readonly local: number; readonly host: string; readonly length: number }[] = []
  readonly sent: Sent[] = []
  readonly reports: MeshPlaneReport[] = []
  readonly inside: Uint8Array[] = []
  readonly closed: number[] = []
  readonly counters = new Counters()
  readonly plane: MeshPlane
  readonly peer: MeshPeer
  readonly #sockets = new Map<number, SocketHandlers>()
  readonly #slab = new Slab()
  readonly #privateKey: Uint8Array

  constructor(number: number) {
    const { privateKey, publicKey } = x25519FromPrivate(seededRandom(`plane ${number}`)(32))
    const addresses = [`fd68::${number}`]
    this.#privateKey = privateKey
    this.peer = { peer: number, publicKey, presharedKey: PSK, addresses, rules: [] }
    this.plane = new MeshPlane({
      settings: { privateKey, addresses, turnServers: [TURN] },
      datagrams: { open: (plan, handlers) => this.#open(plan, handlers) },
      counters: this.counters,
      now: () => this.now,
      report: report => this.reports.push(report),
      planOf: ({ port }) => ({ bind: { host: '0.0.0.0', port }, isBusy: true }),
      toTunnel: (buffer, offset, length) => this.inside.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
      slab: this.#slab,
    })
    this.plane.carryOut({ kind: 'open', local: SOCKET, family: 4, port: 41_000, fd: -1 })
    const at = { host: '127.0.0.1', port: 7 }
    this.plane.carryOut({ kind: 'openMeeting', local: MEETING, at, from: RELAYED })
  }

  know(peers: readonly MeshPeer[]): void {
    this.plane.carryOut({ kind: 'peers', privateKey: this.#privateKey, peers })
  }

  path(peer: number, path: Path | undefined): void {
    this.plane.carryOut({ kind: 'path', peer, path })
  }

  /** A packet of the TUN, where the TUN's port would have put it. */
  send(packet: Uint8Array): void {
    const at = this.#slab.take(packet.length) + HEADROOM
    this.#slab.buffer.set(packet, at)
    this.plane.send(this.#slab.buffer, at, packet.length)
  }

  hear(bytes: Uint8Array, from: Address, port = 41_000): void {
    const room = Buffer.concat([Buffer.alloc(32), bytes, Buffer.alloc(32)])
    this.#sockets.get(port)?.onDatagram(room, 32, bytes.length, from)
    if (!this.isSlow) this.answerReports()
  }

  /** As the paths' thread does: what is no check comes back. */
  answerReports(): void {
    for (const { local, from, bytes } of this.told('datagram')) {
      if (isStun(bytes, 0, bytes.length) || bytes[0] === 0x40)
        this.checks.push({ local, host: from.host, length: bytes.length })
      else this.plane.carryOut({ kind: 'packet', local, from, bytes })
    }
    const isHeard = ({ kind }: MeshPlaneReport) => kind === 'datagram' || kind === 'outward'
    this.plane.carryOut({ kind: 'heard', reports: this.reports.filter(isHeard).length })
    const left = this.reports.filter(({ kind }) => kind !== 'datagram')
    this.reports.splice(0, this.reports.length, ...left)
  }

  told<K extends MeshPlaneReport['kind']>(kind: K): Extract<MeshPlaneReport, { kind: K }>[] {
    return this.reports.filter((report): report is Extract<MeshPlaneReport, { kind: K }> => report.kind === kind)
  }

  #open({ bind, connect }: SocketPlan, handlers: SocketHandlers) {
    const port = connect?.port ?? bind?.port ?? 0
    const isTaken = this.#sockets.has(port)
    if (isTaken) handlers.onFailed?.('EADDRINUSE')
    else {
      this.#sockets.set(port, handlers)
      handlers.onOpen?.({ host: '0.0.0.0', port })
    }
    return {
      send: (buffer: Uint8Array, offset: number, length: number, to?: Address) =>
        void this.sent.push({ port, to, bytes: Uint8Array.from(buffer.subarray(offset, offset + length)) }),
      close: () => void this.closed.push(port),
    }
  }
}

/** Two that have a session along a direct path. */
function pair(): readonly [Side, Side] {
  const [a, b] = [new Side(1), new Side(2)]
  a.know([b.peer])
  b.know([a.peer])
  a.path(2, { kind: 'direct', local: SOCKET, to: THERE })
  b.path(1, { kind: 'direct', local: SOCKET, to: THERE })
  carry(a, b)
  for (const side of [a, b]) side.inside.splice(0)
  return [a, b]
}

/** Carries what each sends by its socket to the other's until both are silent. */
function carry(a: Side, b: Side): void {
  for (let i = 0; i < 20; i++) {
    const [fromA, fromB] = [a.sent.splice(0), b.sent.splice(0)]
    for (const { bytes } of fromA) b.hear(bytes, THERE)
    for (const { bytes } of fromB) a.hear(bytes, THERE)
  }
}

function echo(from: number, to: number): Uint8Array {
  return echoRequest(parseIp(`fd68::${from}`) as Uint8Array, parseIp(`fd68::${to}`) as Uint8Array, 7, 300)
}

/** What is sent for one packet of the TUN, behind the keepalive of a new path. */
function outward(side: Side, packet: Uint8Array): Sent {
  side.sent.splice(0)
  side.send(packet)
  return side.sent.at(-1) as Sent
}

function framed(bytes: Uint8Array): Uint8Array {
  const frame = new Uint8Array(4 + bytes.length)
  writeChannelHeader(frame, 0, CHANNEL, bytes.length)
  frame.set(bytes, 4)
  return frame
}

test('a packet goes by the socket, the meeting or the channel that its path is, and is opened from each', () => {
  const [a, b] = pair()
  const packet = echo(1, 2)
  const direct = outward(a, packet)
  assert.deepEqual([direct.port, direct.to], [41_000, THERE])
  b.hear(direct.bytes, THERE)

  a.path(2, { kind: 'relayed', local: MEETING, to: RELAYED })
  const met = outward(a, packet)
  assert.deepEqual([met.port, met.to], [7, undefined])
  assert.deepEqual(met.bytes.subarray(0, MEETING_HEADER.length), MEETING_HEADER)
  b.hear(met.bytes, { host: '127.0.0.1', port: 7 }, 7)

  a.path(2, { kind: 'turn', local: SOCKET, to: TURN, channel: CHANNEL })
  const channelled = outward(a, packet)
  assert.deepEqual([channelled.port, channelled.to], [41_000, TURN])
  assert.deepEqual([...channelled.bytes.subarray(0, 4)], [0x40, 1, 1, channelled.bytes.length - 4 - 256])
  b.hear(channelled.bytes, TURN)

  assert.deepEqual(
    b.inside,
    [packet, packet, packet].map(bytes => Uint8Array.from(bytes)),
  )
})

test('what is still on the old path arrives after another was taken', () => {
  const [a, b] = pair()
  const late = outward(a, echo(1, 2))
  a.path(2, { kind: 'relayed', local: MEETING, to: RELAYED })
  b.path(1, { kind: 'relayed', local: MEETING, to: RELAYED })
  b.hear(outward(a, echo(1, 2)).bytes, RELAYED, 7)
  b.hear(late.bytes, THERE)
  assert.equal(b.inside.length, 2)
  a.path(2, undefined)
  a.sent.splice(0)
  a.send(echo(1, 2))
  assert.equal(a.sent.length, 0, 'nowhere to go')
})

test('until a channel is bound a packet is given to who can send it, and what came wrapped is opened', () => {
  const [a, b] = pair()
  a.path(2, { kind: 'turn', local: SOCKET, to: TURN, channel: undefined })
  a.reports.splice(0)
  a.send(echo(1, 2))
  assert.equal(a.sent.length, 0)
  const [wrapped] = a.told('outward')
  assert.equal(wrapped?.peer, 2)
  b.plane.carryOut({ kind: 'packet', local: -1, from: THERE, bytes: wrapped?.bytes ?? new Uint8Array(0) })
  assert.equal(b.inside.length, 1)
})

test('who is no TURN server opens no channel', () => {
  const [a, b] = pair()
  const { bytes } = outward(a, echo(1, 2))
  b.hear(framed(bytes), THERE)
  assert.equal(b.inside.length, 0)
  b.hear(framed(bytes), TURN)
  assert.equal(b.inside.length, 1)
})

test('checks are told with where they came from, out of a channel as they came', () => {
  const [a] = pair()
  a.hear(BINDING, THERE)
  a.hear(Buffer.concat([MEETING_HEADER, BINDING]), { host: '127.0.0.1', port: 7 }, 7)
  a.hear(framed(BINDING), TURN)
  assert.deepEqual(a.checks, [
    { local: SOCKET, host: THERE.host, length: BINDING.length },
    { local: MEETING, host: RELAYED.host, length: BINDING.length },
    { local: SOCKET, host: TURN.host, length: BINDING.length + 4 },
  ])
})

test('of a flood no more is held than a thousand, whoever is slow; packets of sessions go on meanwhile', () => {
  const [a, b] = pair()
  b.isSlow = true
  for (let i = 0; i < 100_000; i++) b.hear(i % 2 === 0 ? BINDING : Buffer.alloc(148, 1), THERE)
  assert.equal(b.told('datagram').length, 1_024)
  assert.equal(b.counters.get('dropHandshakeQueue'), 100_000 - 1_024)
  b.hear(outward(a, echo(1, 2)).bytes, THERE)
  assert.equal(b.inside.length, 1)
  b.answerReports()
  b.hear(BINDING, THERE)
  assert.equal(b.told('datagram').length, 1, 'later they are heard again')
})

test('a handshake that is quicker than the news of its path is answered along that path', () => {
  const [a, b] = [new Side(1), new Side(2)]
  a.know([b.peer])
  b.know([a.peer])
  a.path(2, { kind: 'direct', local: SOCKET, to: THERE })
  b.isSlow = true
  for (const { bytes } of a.sent.splice(0)) {
    b.hear(BINDING, THERE)
    b.hear(bytes, THERE)
  }
  b.path(1, { kind: 'direct', local: SOCKET, to: THERE })
  b.isSlow = false
  b.answerReports()
  carry(a, b)
  b.plane.carryOut({ kind: 'status', request: 1 })
  assert.equal(b.told('status')[0]?.peers[0]?.isUp, true)
})

test('traffic is told every 100 ms and no more often, also where there is no path', () => {
  const [a] = pair()
  const times = (ms: number) => {
    a.reports.splice(0)
    for (let i = 0; i < ms; i++) {
      a.now++
      a.send(echo(1, 2))
    }
    return a.told('traffic').length
  }
  assert.equal(times(1_000), 10)
  a.path(2, undefined)
  assert.equal(times(1_000), 10)
})

test('a phone is answered where it is, and its host is told once before something goes there', () => {
  const a = new Side(1)
  const sent: Uint8Array[] = []
  const phone = new WireGuardDevice<number>({
    ...{ privateKey: seededRandom('phone')(32), random: seededRandom('of the phone'), unixOffsetMs: 1_700_000_000_000 },
    sameEndpoint: (one, other) => one === other,
    endpointBytes: endpoint => Uint8Array.of(endpoint),
    outlet: {
      toEndpoint: (_peer, _endpoint, buffer, offset, length) =>
        sent.push(Uint8Array.from(buffer.subarray(offset, offset + length))),
      toTunnel: () => {},
    },
  })
  a.know([{ peer: 3, publicKey: phone.publicKey, presharedKey: PSK, addresses: ['fd68::3'], rules: [], isPlain: true }])
  phone.setPeer({ publicKey: a.peer.publicKey, presharedKey: PSK, endpoint: 1, allowedIps: [] }, 1_000)
  phone.initiate(a.peer.publicKey, 1_000)
  a.hear(sent.splice(0)[0] as Uint8Array, THERE)
  assert.deepEqual(a.told('host'), [{ kind: 'host', host: THERE.host }])
  const [answer] = a.sent.splice(0)
  assert.deepEqual([answer?.port, answer?.to], [41_000, THERE])
  phone.receive(answer?.bytes as Uint8Array, 0, answer?.bytes.length ?? 0, 1, 1_000)
  for (const bytes of sent.splice(0)) a.hear(bytes, THERE)
  a.send(echo(1, 3))
  assert.deepEqual(a.sent.at(-1)?.to, THERE)
  assert.equal(a.told('host').length, 1)
})

test('a queue that stands has one packet marked, where its sender understands that, else dropped', () => {
  const [a, b] = pair()
  const capable = echo(1, 2)
  // The lowest bits of the traffic class: the sender understands marks.
  capable[1] = 0x20
  const shed = (packet: Uint8Array) => {
    const { bytes } = outward(a, packet)
    b.plane.shedsNext = true
    b.hear(bytes, THERE)
    return b.inside.splice(0)
  }
  assert.equal((shed(capable)[0]?.[1] ?? 0) & 0x30, 0x30)
  assert.equal(shed(echo(1, 2)).length, 0)
  assert.deepEqual([b.counters.get('markedCongestion'), b.counters.get('dropStandingQueue')], [1, 1])
})

test('a port that is taken is told, and nothing is sent by what was never opened or is closed', () => {
  const a = new Side(1)
  a.plane.carryOut({ kind: 'open', local: 1_005, family: 4, port: 41_000, fd: -1 })
  assert.deepEqual(a.told('opened'), [
    { kind: 'opened', local: SOCKET, port: 41_000 },
    { kind: 'opened', local: 1_005, port: undefined },
  ])
  a.plane.carryOut({ kind: 'close', local: SOCKET })
  for (const local of [SOCKET, 1_005, 7_777]) a.plane.carryOut({ kind: 'send', local, to: THERE, bytes: BINDING })
  assert.deepEqual([a.sent.length, a.closed], [0, [41_000]])
  a.plane.close()
  assert.deepEqual(a.closed, [41_000, 7])
})
