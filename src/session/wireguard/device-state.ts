// What the halves of a WireGuard device share: its peers, the tables of indices, where packets go, and what is counted.

import type { Random } from '#crypto/random.ts'
import { readU32 } from '#wire/transport.ts'
import { AllowedIps } from './allowed-ips.ts'
import { type DropReason, makeDropCounts } from './drops.ts'
import type { Keypair } from './keypair.ts'
import { Peer, type PeerHandle } from './peer.ts'

/** Where packets go. Buffers belong to the device again when the call returns. */
export interface WireGuardOutlet<Endpoint> {
  /** A datagram for the network; `peer` is undefined for a cookie reply, whose receiver is not known. */
  toEndpoint(peer: PeerHandle | undefined, endpoint: Endpoint, buffer: Uint8Array, offset: number, length: number): void
  /** A decrypted IP packet whose source address belongs to `peer`, without its padding. */
  toTunnel(peer: PeerHandle, buffer: Uint8Array, offset: number, length: number): void
  event?(event: WireGuardEvent<Endpoint>): void
}

export type WireGuardEvent<Endpoint> =
  | { readonly kind: 'handshakeCompleted'; readonly peer: PeerHandle; readonly role: 'initiator' | 'responder' }
  | { readonly kind: 'endpointMoved'; readonly peer: PeerHandle; readonly endpoint: Endpoint }
  /** Nobody answered for 90 seconds; packets that waited are gone. */
  | { readonly kind: 'gaveUp'; readonly peer: PeerHandle }
  | { readonly kind: 'keysWiped'; readonly peer: PeerHandle }

export interface WireGuardOptions<Endpoint> {
  /** 32 bytes, not kept. */
  readonly privateKey: Uint8Array
  readonly random: Random
  /** Unix time minus `now`. */
  readonly unixOffsetMs: number
  readonly outlet: WireGuardOutlet<Endpoint>
  sameEndpoint(a: Endpoint, b: Endpoint): boolean
  /** An endpoint in bytes, for cookies: 4 address bytes and 2 of port, 16 and 2, or anything that tells it from others. */
  endpointBytes(endpoint: Endpoint): Uint8Array
  /** Called for an endpoint that is kept beyond the call: for callers who change theirs. */
  readonly keepEndpoint?: (endpoint: Endpoint) => Endpoint
  /** The longest IP packet of the tunnel; padding does not go beyond it. 1420 unless told. */
  readonly mtu?: number
  /** Packets sealed under one key before it is of no more use; renewed at a sixteenth. The protocol's 2^48 unless told. */
  readonly maxMessagesPerKey?: number
  readonly maxPeers?: number
  readonly maxAllowedIps?: number
  /** Handshake messages a second before cookies are demanded. */
  readonly maxHandshakesPerSecond?: number
}

type KeptOptions<Endpoint> = Omit<WireGuardOptions<Endpoint>, 'privateKey'>

export class DeviceState<Endpoint> {
  readonly options: KeptOptions<Endpoint>
  readonly peers = new Map<string, Peer<Endpoint>>()
  /** By local index as a signed 32-bit integer, which needs no memory of its own when it is looked up. */
  readonly keypairs = new Map<number, Keypair<Peer<Endpoint>>>()
  /** Peers with an initiation under way, by its index, likewise. */
  readonly pending = new Map<number, Peer<Endpoint>>()
  readonly allowedIps = new AllowedIps<Peer<Endpoint>>()
  readonly drops = makeDropCounts()
  isClosed = false
  /** No later than the earliest alarm of any peer. */
  deadline = Number.POSITIVE_INFINITY

  constructor(options: KeptOptions<Endpoint>) {
    this.options = options
  }

  drop(reason: DropReason): DropReason {
    this.drops[reason]++
    return reason
  }

  makePeer(publicKey: Uint8Array): Peer<Endpoint> {
    return new Peer<Endpoint>(publicKey, keypair => this.keypairs.delete(keypair.localIndex | 0))
  }

  /** A random index of 32 bits that nothing has. */
  freeIndex(): number {
    for (;;) {
      const index = readU32(this.options.random(4), 0)
      if (!this.keypairs.has(index | 0) && !this.pending.has(index | 0)) return index
    }
  }

  /** The alarms of `peer` have changed. */
  arm(peer: Peer<Endpoint>): void {
    const deadline = peer.timers.deadline()
    if (deadline < this.deadline) this.deadline = deadline
  }

  /** An authenticated packet came from `endpoint`. */
  roam(peer: Peer<Endpoint>, endpoint: Endpoint): void {
    if (peer.roaming === 'fixed') return
    if (peer.endpoint !== undefined && this.options.sameEndpoint(peer.endpoint, endpoint)) return
    const { keepEndpoint, outlet } = this.options
    const kept = keepEndpoint === undefined ? endpoint : keepEndpoint(endpoint)
    peer.endpoint = kept
    outlet.event?.({ kind: 'endpointMoved', peer: peer.handle, endpoint: kept })
  }

  dropPending(peer: Peer<Endpoint>): void {
    if (peer.pending === undefined) return
    this.pending.delete(peer.pending.localIndex | 0)
    peer.pending.noise.wipe()
    peer.pending = undefined
  }
}
