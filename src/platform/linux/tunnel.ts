// Our own WireGuard device between a TUN and the entries that lead to its servers.
//
//   TUN ──► slab ──device.send──► sealed where it lies ──► entry's leg ──► socket
//   socket ──► opened where it lies ──device.receive──► TUN

import { copyBytes } from '#bytes/copy.ts'
import { systemRandom } from '#crypto/random.ts'
import type { TunnelPeerReport, TunnelPlan } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import type { Forwarder } from '#forward/forwarder.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import type { Entries, TunnelClient } from '../entries.ts'
import type { EventLoop } from './event-loop.ts'
import type { KnownBuffers } from './send-queue.ts'
import { TunPort } from './tun-port.ts'

export interface TunnelOptions {
  readonly plan: TunnelPlan
  readonly forwarder: Forwarder
  readonly entries: Entries
  readonly counters: Counters
  readonly loop: EventLoop
  readonly known: KnownBuffers
  /** Sends what waits. */
  readonly flush: () => void
  readonly now: () => number
}

export class Tunnel implements TunnelClient {
  readonly #options: TunnelOptions
  readonly #device: WireGuardDevice<number>
  readonly #keys = new Map<number, Uint8Array>()
  readonly #port: TunPort

  constructor(options: TunnelOptions) {
    this.#options = options
    const { plan, entries, forwarder, known, counters, loop, flush, now } = options
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
        toTunnel: (_peer, buffer, offset, length) => this.#port.write(buffer, offset, length),
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
      onPacket: (buffer, offset, length) => {
        if (this.#device.send(buffer, offset, length, now()) !== undefined) counters.add('dropTunnel')
      },
      flush,
    })
  }

  /** Hands the packets of a batch to the kernel: the memory they lie in is used again. */
  flush(): void {
    this.#port.flush()
  }

  receive(entry: number, buffer: Uint8Array, offset: number, length: number): boolean {
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
}
