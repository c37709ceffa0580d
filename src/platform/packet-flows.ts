// IP packets between this node's TUN, the port, and flows of sessions. A client has one flow, its own; an exit has one for
// each client, told apart by the addresses that stand for them inside its tunnel networks.
//
//   client   TUN ──► from our address? ──► clamp ──► flow         flow ──► for our address? ──► clamp ──► TUN
//   exit     flow ──► from the client's? ──► translate ──► TUN    TUN ──► whose address? ──► translate ──► flow
//
// A packet that is longer than the flow carries is answered and goes no further. Nothing is made for a packet.

import type { InsideAddresses } from '#forward/commands.ts'
import type { Counter, Counters } from '#forward/counters.ts'
import type { Forwarder } from '#forward/forwarder.ts'
import { HEADROOM } from '#forward/slab.ts'
import type { PacketFlow } from '#forward/tables.ts'
import { markCongestion } from '#packet/congestion-mark.ts'
import { IpPacket, parseIpPacket, read16 } from '#packet/ip-packet.ts'
import { clampSegmentSize } from '#packet/mss-clamp.ts'
import { OwnAddresses } from '#packet/own-addresses.ts'
import { MAX_TOO_BIG_BYTES, TooBigAnswers } from '#packet/too-big.ts'
import { type TranslateFault, Translation } from '#packet/translate.ts'
import { parseIp } from '#wire/address.ts'
import { CLIENT_ADDRESS_4, CLIENT_ADDRESS_6 } from '#wire/tunnel-addresses.ts'

/** A TUN as it is driven here. */
export interface PacketDevice {
  /** Takes a packet that lies where it is until `flush`, with 10 bytes before it that may be written over. */
  write(buffer: Uint8Array, offset: number, length: number): void
  flush(): void
  /** Gives packets of at most `mtu` bytes from now on, where that is within its power. */
  limit(mtu: number): void
  close(): void
}

/** One client of an exit. */
interface ExitFlow {
  readonly flow: PacketFlow
  readonly inside: InsideAddresses
  readonly translation4: Translation | undefined
  readonly translation6: Translation | undefined
}

const CLIENT_4 = parseIp(CLIENT_ADDRESS_4) ?? new Uint8Array(4)
const CLIENT_6 = parseIp(CLIENT_ADDRESS_6) ?? new Uint8Array(16)
const FAULT_COUNTERS: Record<TranslateFault, Counter> = { foreign: 'dropSpoofed', quote: 'dropMalformed' }

export class PacketFlows {
  readonly #forwarder: Forwarder
  readonly #counters: Counters
  readonly #now: () => number
  readonly #packet = new IpPacket()
  readonly #own = new OwnAddresses([CLIENT_4, CLIENT_6])
  readonly #answers = new TooBigAnswers()
  #device: PacketDevice | undefined
  /** A client's flow. */
  #client: PacketFlow | undefined
  readonly #exits = new Map<PacketFlow, ExitFlow>()
  /** By version and the last two bytes of the address, in which all of one network differ. */
  readonly #byAddress = new Map<number, ExitFlow>()

  constructor(forwarder: Forwarder, counters: Counters, now: () => number) {
    this.#forwarder = forwarder
    this.#counters = counters
    this.#now = now
  }

  /** Carries the packets of a device. */
  open(device: PacketDevice): void {
    this.close()
    this.#device = device
    if (this.#client !== undefined) device.limit(this.#client.mtu)
  }

  /** Closes the device; flows stay. */
  close(): void {
    this.#device?.close()
    this.#device = undefined
  }

  /** Hands the packets of a batch to the device: the memory they lie in is used again. */
  flush(): void {
    this.#device?.flush()
  }

  /** Adds a flow that carries packets of at most `mtu` bytes. */
  install(session: number, flow: number, inside: InsideAddresses | undefined, mtu: number): void {
    const { tables } = this.#forwarder
    const added = tables.installPacketFlow(session, flow, inside, mtu)
    if (added === undefined) return
    if (inside === undefined) {
      const before = this.#client
      if (before !== undefined) tables.removeFlow(before.session, before.flow)
      this.#client = added
      this.#device?.limit(mtu)
      return
    }
    const { address4, address6 } = inside
    const exit: ExitFlow = {
      flow: added,
      inside,
      translation4: address4 && new Translation(CLIENT_4, address4),
      translation6: address6 && new Translation(CLIENT_6, address6),
    }
    this.#exits.set(added, exit)
    if (address4 !== undefined) this.#byAddress.set(keyOf(4, address4, 2), exit)
    if (address6 !== undefined) this.#byAddress.set(keyOf(6, address6, 14), exit)
  }

  /** A flow carries packets of at most `mtu` bytes from now on. */
  resize(session: number, flow: number, mtu: number): void {
    const found = this.#forwarder.tables.sessions.get(session)?.flows.get(flow)
    if (found?.kind !== 'packets') return
    found.mtu = mtu
    if (found === this.#client) this.#device?.limit(mtu)
  }

  /** Forgets a flow that the tables have no longer. */
  remove(flow: PacketFlow): void {
    if (this.#client === flow) this.#client = undefined
    const exit = this.#exits.get(flow)
    if (exit === undefined) return
    this.#exits.delete(flow)
    const { address4, address6 } = exit.inside
    if (address4 !== undefined) this.#forget(keyOf(4, address4, 2), exit)
    if (address6 !== undefined) this.#forget(keyOf(6, address6, 14), exit)
  }

  /** A packet that a session brought, with at least 10 bytes before it that are ours; one that is shed is marked or dropped. */
  deliver(flow: PacketFlow, buffer: Uint8Array, offset: number, length: number, isShed = false): void {
    const packet = this.#packet
    const device = this.#device
    if (device === undefined) return this.#drop('dropNoFlow')
    if (parseIpPacket(packet, buffer, offset, length) !== undefined) return this.#drop('dropMalformed')
    if (flow.inside === undefined) {
      if (!this.#own.isDestination(buffer, offset, packet)) return this.#drop('dropSpoofed')
    } else {
      const exit = this.#exits.get(flow)
      const translation = packet.version === 4 ? exit?.translation4 : exit?.translation6
      if (translation === undefined) return this.#drop('dropSpoofed')
      const fault = translation.outward(buffer, offset, packet)
      if (fault !== undefined) return this.#drop(FAULT_COUNTERS[fault])
    }
    if (isShed && !markCongestion(buffer, offset)) return this.#drop('dropStandingQueue')
    if (isShed) this.#counters.add('markedCongestion')
    clampSegmentSize(buffer, offset, packet, flow.mtu)
    device.write(buffer, offset, packet.length)
  }

  /** A packet of the device, which lies in the slab with room around it for every layer, or is too long to be sent. */
  send(buffer: Uint8Array, offset: number, length: number): void {
    const packet = this.#packet
    if (parseIpPacket(packet, buffer, offset, length) !== undefined) return this.#drop('dropMalformed')
    const client = this.#client
    if (client !== undefined) {
      if (!this.#own.isSource(buffer, offset, packet)) return this.#drop('dropSpoofed')
      return this.#seal(client, buffer, offset, packet)
    }
    const exit = this.#exitFor(buffer, offset, packet)
    if (exit === undefined) return this.#drop('dropNoFlow')
    if (packet.length > exit.flow.mtu) return this.#answer(buffer, offset, packet, exit.flow.mtu)
    const translation = packet.version === 4 ? exit.translation4 : exit.translation6
    const fault = translation?.inward(buffer, offset, packet)
    if (fault !== undefined) return this.#drop(FAULT_COUNTERS[fault])
    this.#seal(exit.flow, buffer, offset, packet)
  }

  #seal(flow: PacketFlow, buffer: Uint8Array, offset: number, packet: IpPacket): void {
    if (packet.length > flow.mtu) return this.#answer(buffer, offset, packet, flow.mtu)
    clampSegmentSize(buffer, offset, packet, flow.mtu)
    this.#forwarder.sendInPlace(flow.session, flow.flow, buffer, offset, packet.length)
  }

  #answer(buffer: Uint8Array, offset: number, packet: IpPacket, mtu: number): void {
    this.#drop('dropTooBig')
    const { slab } = this.#forwarder
    const at = slab.take(MAX_TOO_BIG_BYTES) + HEADROOM
    const length = this.#answers.write(buffer, offset, packet, mtu, slab.buffer, at, this.#now())
    if (length === 0) slab.giveBack(MAX_TOO_BIG_BYTES)
    else this.#device?.write(slab.buffer, at, length)
  }

  /** The exit's client that the packet is for: it is not enough that two bytes are equal. */
  #exitFor(
    buffer: Uint8Array,
    offset: number,
    { version, destination, addressLength }: IpPacket,
  ): ExitFlow | undefined {
    const at = offset + destination
    const exit = this.#byAddress.get(keyOf(version, buffer, at + addressLength - 2))
    const address = version === 4 ? exit?.inside.address4 : exit?.inside.address6
    if (address === undefined) return undefined
    for (let i = 0; i < addressLength; i++) if (address[i] !== buffer[at + i]) return undefined
    return exit
  }

  #forget(key: number, exit: ExitFlow): void {
    if (this.#byAddress.get(key) === exit) this.#byAddress.delete(key)
  }

  #drop(reason: Counter): void {
    this.#counters.add(reason)
  }
}

function keyOf(version: 4 | 6, address: Uint8Array, at: number): number {
  return (version << 16) | read16(address, at)
}
