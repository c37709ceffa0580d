// Code that runs seldom is interpreted, and takes a multiple of the time of compiled code: a call's packet 70 to 90 us at a hop, in
// place of 14 to 24. So each worker begins with packets of its own, until V8 has compiled what every packet goes through: a client, a
// relay and an exit, all here, with pairs of sockets in the place of TUNs.
//
//   near ══pair══ client ──loopback──► relay ──loopback──► exit ══pair══ far
//
// It is done a little at a time, between the turns of the worker's loop, and gives up where loopback carries nothing.

import { systemRandom } from '#crypto/random.ts'
import type { Command, Keypair, Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { completeChecksum, pseudoHeaderSum, writeIpv4Checksum } from '#packet/checksum.ts'
import { IpPacket, parseIpPacket, UDP, write16 } from '#packet/ip-packet.ts'
import { VIRTIO_HEADER_BYTES } from '#packet/virtio-net-header.ts'
import { type Address, parseIp } from '#wire/address.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { CLIENT_ADDRESS_4 } from '#wire/tunnel-addresses.ts'
import { monotonicMs } from '../../clock.ts'
import { fileCalls } from '../libc.ts'
import { batchCalls, Memory, openPair, word } from '../socket-calls.ts'
import { EventLoop } from './event-loop.ts'
import { type LinuxPlane, openLinuxPlane } from './linux-plane.ts'
import type { ThreadDescriptors } from './thread-descriptors.ts'

/** Round trips that are enough, by measurement. */
const ROUND_TRIPS = 2_000
const STEP_MS = 2
/** From one end to the other. */
const MOST_TURNS = 12
const MTU = 1_280
const PAYLOAD_BYTES = 64
const PACKET_BYTES = VIRTIO_HEADER_BYTES + 28 + PAYLOAD_BYTES
const CLIENT = parseIp(CLIENT_ADDRESS_4) ?? new Uint8Array(4)
const INSIDE = Uint8Array.of(10, 64, 201, 7)
const FAR = Uint8Array.of(198, 18, 0, 1)
const FLOW = 1

export class WarmUp {
  isDone = false
  readonly #counters = new Counters()
  #rig: Rig | undefined
  #left = ROUND_TRIPS
  readonly #descriptors: ThreadDescriptors | undefined

  /** @param descriptors where those are noted that are open */
  constructor(descriptors?: ThreadDescriptors) {
    this.#descriptors = descriptors
  }

  /** Some round trips, for two milliseconds. */
  step(): void {
    if (this.isDone) return
    try {
      this.#rig ??= new Rig(this.#counters, this.#descriptors)
      for (const untilMs = monotonicMs() + STEP_MS; monotonicMs() < untilMs; ) {
        if (this.#left-- === 0 || !this.#rig.roundTrip()) return this.close()
      }
    } catch {
      // Too few descriptors, say. Whoever needs them will say so.
      this.close()
    }
  }

  /** What was carried, for tests. */
  get counters(): Counters {
    return this.#counters
  }

  close(): void {
    this.isDone = true
    this.#rig?.close()
    this.#rig = undefined
  }
}

/** The three nodes with what lies between them. */
class Rig {
  readonly #loop: EventLoop
  readonly #nodes: LinuxPlane[] = []
  readonly #near: End
  readonly #far: End
  #nowMs = 0
  readonly #turn = {
    now: () => (this.#nowMs = monotonicMs()),
    settle: () => {
      for (const node of this.#nodes) node.flush()
    },
  }

  constructor(counters: Counters, descriptors: ThreadDescriptors | undefined) {
    this.#loop = new EventLoop(descriptors)
    this.#near = new End(packetOf(CLIENT, FAR), descriptors)
    this.#far = new End(packetOf(FAR, INSIDE), descriptors)
    const open = () => {
      let address: Address = { host: '127.0.0.1', port: 0 }
      const settings = { ...address, maxStreamDatagram: MTU, counters: counters.shared }
      const report = (report: Report) => {
        if (report.kind === 'listening') address = report.address
        if (report.kind === 'handshake')
          apply({ kind: 'sendHandshake', via: report.from, bytes: messageOf('response') })
      }
      const node = openLinuxPlane({ settings, counters, loop: this.#loop, report, now: () => this.#nowMs })
      this.#nodes.push(node)
      // As they come from the control plane: objects made elsewhere have another shape for V8.
      const apply = (command: Command) => node.plane.apply(structuredClone(command))
      return { apply, address }
    }
    const [client, relay, exit] = [open(), open(), open()]
    const [first, second] = [keypairs(1), keypairs(2)]
    const viaClient = { kind: 'socket', address: client.address } as const
    const viaRelay = { kind: 'socket', address: relay.address } as const
    const viaFlow = { kind: 'flow', session: 1, flow: FLOW } as const
    const packets = { kind: 'installPacketFlow', flow: FLOW, mtu: MTU } as const
    const install = { kind: 'installSession', session: 1 } as const
    client.apply({ ...install, role: 'initiator', via: viaRelay, keys: first.client })
    client.apply({ ...install, session: 2, role: 'initiator', via: viaFlow, keys: second.client })
    client.apply({ kind: 'installNesting', session: 1, flow: FLOW })
    client.apply({ kind: 'openPort', port: { fd: this.#near.portFd, offload: 'tcp and udp', mtu: MTU } })
    client.apply({ ...packets, session: 2 })
    relay.apply({ ...install, role: 'responder', via: viaClient, keys: first.hop })
    const to = { address: exit.address, first: new Uint8Array(0) }
    relay.apply({ kind: 'installFlow', session: 1, flow: FLOW, proof: 'hop', ...to })
    exit.apply({ ...install, role: 'responder', via: viaRelay, keys: second.hop })
    exit.apply({ kind: 'openPort', port: { fd: this.#far.portFd, offload: 'tcp and udp', mtu: MTU } })
    exit.apply({ ...packets, session: 1, inside: { address4: INSIDE } })
    // The relay's flow opens when the exit has answered.
    client.apply({ kind: 'sendHandshake', via: viaFlow, bytes: messageOf('initiation') })
    for (let turn = 0; turn < MOST_TURNS; turn++) this.#loop.poll(this.#turn)
  }

  /** A packet from near to far and one back; false when one does not arrive. */
  roundTrip(): boolean {
    return this.#pass(this.#near, this.#far) && this.#pass(this.#far, this.#near)
  }

  close(): void {
    for (const node of this.#nodes) node.close()
    this.#near.close()
    this.#far.close()
    this.#loop.close()
  }

  #pass(from: End, to: End): boolean {
    from.send()
    for (let turn = 0; turn < MOST_TURNS; turn++) {
      this.#loop.poll(this.#turn)
      if (to.hasReceived()) return true
    }
    return false
  }
}

/** Our end of a pair of sockets; the other end is a port's TUN. */
class End {
  readonly portFd: number
  readonly #fd: number
  readonly #packet = new Memory(PACKET_BYTES)
  readonly #received = new Memory(PACKET_BYTES)

  readonly #descriptors: ThreadDescriptors | undefined

  constructor(packet: Uint8Array, descriptors: ThreadDescriptors | undefined) {
    const [near, far] = openPair()
    this.#descriptors = descriptors
    descriptors?.add(near)
    this.#fd = near
    this.portFd = far
    this.#packet.bytes.set(packet)
  }

  send(): void {
    batchCalls().write(word(this.#fd), this.#packet.pointer, word(PACKET_BYTES))
  }

  hasReceived(): boolean {
    return batchCalls().read(word(this.#fd), this.#received.pointer, word(PACKET_BYTES)) > 0
  }

  close(): void {
    this.#descriptors?.delete(this.#fd)
    fileCalls().close(this.#fd)
  }
}

/** A UDP packet as a TUN with offloads gives it. */
function packetOf(from: Uint8Array, to: Uint8Array): Uint8Array {
  const bytes = new Uint8Array(PACKET_BYTES)
  const at = VIRTIO_HEADER_BYTES
  const length = PACKET_BYTES - at
  bytes.set([0x45, 0], at)
  write16(bytes, at + 2, length)
  bytes.set([64, UDP], at + 8)
  bytes.set(from, at + 12)
  bytes.set(to, at + 16)
  writeIpv4Checksum(bytes, at, 20)
  for (const [field, value] of [9, 9, length - 20].entries()) write16(bytes, at + 20 + 2 * field, value)
  const packet = new IpPacket()
  parseIpPacket(packet, bytes, at, length)
  write16(bytes, at + 26, pseudoHeaderSum(bytes, at, packet, length - 20))
  completeChecksum(bytes, at + 20, PACKET_BYTES, at + 26)
  return bytes
}

/** What a relay takes for the beginning of a handshake, or for the answer to it. */
function messageOf(kind: 'initiation' | 'response'): Uint8Array {
  const bytes = new Uint8Array(HOP_HANDSHAKE[`${kind}Bytes`])
  bytes[0] = HOP_HANDSHAKE[kind]
  return bytes
}

function keypairs(index: number): { readonly client: Keypair; readonly hop: Keypair } {
  const [a, b] = [systemRandom(32), systemRandom(32)]
  const copy = (bytes: Uint8Array) => Uint8Array.from(bytes)
  return {
    client: { localIndex: index, remoteIndex: index, send: copy(a), receive: copy(b) },
    hop: { localIndex: index, remoteIndex: index, send: copy(b), receive: copy(a) },
  }
}
