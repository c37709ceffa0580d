// Our own WireGuard device between a TUN and the entries that lead to its servers.
//
//   TUN ──► slab ──device.send──► sealed where it lies ──► entry's leg ──► socket
//   socket ──► opened where it lies ──device.receive──► TUN
//
// The device is made for the longest packet there may be; what the way carries is less, or becomes less, and then bounds what is
// taken from the TUN, and the segments that the two ends of a connection are told of.

import { copyBytes } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import type { Report, TunnelPeerReport, TunnelPlan } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import type { Forwarder } from '#forward/forwarder.ts'
import { HEADROOM } from '#forward/slab.ts'
import { IpPacket, parseIpPacket } from '#packet/ip-packet.ts'
import { clampSegmentSize } from '#packet/mss-clamp.ts'
import { roundTripToken, writeRoundTrip } from '#packet/round-trip.ts'
import { MAX_TOO_BIG_BYTES, TooBigAnswers } from '#packet/too-big.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import type { Entries, TunnelClient } from '../../entries.ts'
import type { EventLoop } from '../plane/event-loop.ts'
import type { KnownBuffers } from '../plane/send-queue.ts'
import { TunPort } from '../plane/tun-port.ts'

/** Below this the kernel has no IPv6 on an interface. */
const MIN_TUN_MTU = 1_280

export interface TunnelOptions {
  readonly plan: TunnelPlan
  readonly forwarder: Forwarder
  readonly entries: Entries
  readonly counters: Counters
  readonly loop: EventLoop
  readonly known: KnownBuffers
  /** Sends what waits. */
  readonly flush: () => void
  readonly report: (report: Report) => void
  readonly now: () => number
}

export class Tunnel implements TunnelClient {
  readonly #options: TunnelOptions
  readonly #device: WireGuardDevice<number>
  readonly #keys = new Map<number, Uint8Array>()
  readonly #port: TunPort
  readonly #packet = new IpPacket()
  readonly #answers = new TooBigAnswers()
  #mtu: number
  /** The entry that the datagram at hand came by. */
  #entry = 0
  #probes = 0

  constructor(options: TunnelOptions) {
    this.#options = options
    const { plan, entries, forwarder, known, counters, loop, flush, now } = options
    this.#mtu = plan.mtu
    this.#device = new WireGuardDevice<number>({
      privateKey: plan.privateKey,
      random: systemRandom,
      unixOffsetMs: Date.now() - now(),
      mtu: plan.mtu,
      sameEndpoint: (a, b) => a === b,
      endpointBytes: entry => Uint8Array.of(entry >>> 24, entry >>> 16, entry >>> 8, entry),
      outlet: {
        toEndpoint: (_peer, entry, buffer, offset, length) =>
          entries.send(entry, buffer, offset, length, buffer === forwarder.slab.buffer),
        toTunnel: (_peer, buffer, offset, length) => this.#deliver(buffer, offset, length),
      },
    })
    for (const { entry, ...peer } of plan.peers) {
      const endpoint = entry === undefined ? {} : { endpoint: entry }
      if (entry !== undefined) this.#keys.set(entry, copyBytes(peer.publicKey))
      const refusal = this.#device.setPeer({ ...peer, ...endpoint, roaming: 'fixed' }, now())
      if (refusal !== undefined) throw new Error(`add a peer of the tunnel: ${refusal}`)
    }
    this.#port = new TunPort({
      fd: plan.fd,
      offload: plan.offload,
      mtu: plan.mtu,
      slab: forwarder.slab,
      known,
      counters,
      loop,
      now,
      onPacket: (buffer, offset, length) => this.#send(buffer, offset, length),
      onTooBig: (buffer, offset, length) => this.#answer(buffer, offset, length),
      flush,
    })
  }

  /** Hands the packets of a batch to the kernel: the memory they lie in is used again. */
  flush(): void {
    this.#port.flush()
  }

  receive(entry: number, buffer: Uint8Array, offset: number, length: number): boolean {
    this.#entry = entry
    const dropped = this.#device.receive(buffer, offset, length, entry, this.#options.now())
    if (dropped !== undefined) this.#options.counters.add('dropTunnel')
    return dropped === undefined
  }

  initiate(entry: number): void {
    const key = this.#keys.get(entry)
    if (key !== undefined) this.#device.initiate(key, this.#options.now())
  }

  keepalive(entry: number): void {
    const key = this.#keys.get(entry)
    if (key !== undefined) this.#device.keepalive(key, this.#options.now())
  }

  probe(token: Uint8Array, bytes: number): void {
    const { plan, forwarder, now } = this.#options
    if (plan.address === undefined) return
    const length = Math.min(bytes, plan.mtu)
    const at = forwarder.slab.take(length) + HEADROOM
    writeRoundTrip(plan.address, token, length, forwarder.slab.buffer, at)
    this.#probes++
    this.#device.send(forwarder.slab.buffer, at, length, now())
  }

  resize(mtu: number): void {
    this.#mtu = Math.min(mtu, this.#options.plan.mtu)
    this.#port.limit(this.#mtu)
  }

  deadline(): number {
    return this.#device.deadline()
  }

  handleDeadline(now: number): void {
    this.#device.handleDeadline(now)
  }

  report(): TunnelPeerReport[] {
    return this.#device.peers(this.#options.now()).map(peer => ({
      publicKey: peer.publicKey,
      presharedKey: peer.presharedKey && copyBytes(peer.presharedKey.bytes),
      entry: peer.endpoint,
      latestHandshakeUnixMs: peer.latestHandshakeUnixMs,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      persistentKeepaliveSeconds: peer.persistentKeepaliveSeconds,
      allowedIps: peer.allowedIps,
    }))
  }

  close(): void {
    this.#device.close()
    this.#port.close()
  }

  #send(buffer: Uint8Array, offset: number, length: number): void {
    const { counters, now } = this.#options
    if (this.#clamps) this.#clamp(buffer, offset, length)
    if (this.#device.send(buffer, offset, length, now()) !== undefined) counters.add('dropTunnel')
  }

  #deliver(buffer: Uint8Array, offset: number, length: number): void {
    const { address } = this.#options.plan
    if (this.#probes > 0 && address !== undefined) {
      const token = roundTripToken(address, buffer, offset, length)
      if (token !== undefined) return this.#options.report({ kind: 'tunnelEcho', entry: this.#entry, token })
    }
    if (this.#clamps) this.#clamp(buffer, offset, length)
    this.#port.write(buffer, offset, length)
  }

  /** The TUN's own MTU follows what the way carries, but not below what IPv6 needs: then the kernel knows only half of it. */
  get #clamps(): boolean {
    return this.#mtu < MIN_TUN_MTU
  }

  #clamp(buffer: Uint8Array, offset: number, length: number): void {
    if (parseIpPacket(this.#packet, buffer, offset, length) === undefined)
      clampSegmentSize(buffer, offset, this.#packet, this.#mtu)
  }

  #answer(buffer: Uint8Array, offset: number, length: number): void {
    const { forwarder, counters, now } = this.#options
    counters.add('dropTooBig')
    if (parseIpPacket(this.#packet, buffer, offset, length) !== undefined) return
    const { slab } = forwarder
    const at = slab.take(MAX_TOO_BIG_BYTES) + HEADROOM
    const written = this.#answers.write(buffer, offset, this.#packet, this.#mtu, slab.buffer, at, now())
    if (written === 0) slab.giveBack(MAX_TOO_BIG_BYTES)
    else this.#port.write(slab.buffer, at, written)
  }
}
