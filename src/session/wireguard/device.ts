// A WireGuard device: what the kernel's `wg0` is, as a pure machine (docs/spec/wireguard.md). No sockets, no clock.
//
//   network ─► receive ─┬─ types 1 to 3 ─► handshakes.ts ────────────────────────────────► outlet.toEndpoint
//                       └─ type 4 ─► packets.ts: index ─► open ─► source is the peer's? ──► outlet.toTunnel
//   tunnel  ─► send ─► packets.ts: destination's peer ─► seal (or wait for keys) ─────────► outlet.toEndpoint
//   clock   ─► handleDeadline ─► timers.ts of every peer ────────────────────────────────► both

import { Secret } from '#bytes/secret.ts'
import { isUsableX25519 } from '#crypto/x25519.ts'
import { isTransport, TRANSPORT_TYPE } from '#wire/transport.ts'
import { WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'
import { isZeroKey } from '#wire/wireguard-key.ts'
import { isPrefix, type Prefix } from './allowed-ips.ts'
import { DeviceState, type WireGuardOptions } from './device-state.ts'
import type { DropCounts, DropReason } from './drops.ts'
import { makeIdentity } from './handshake.ts'
import { Handshakes } from './handshakes.ts'
import { Packets } from './packets.ts'
import { type Peer, peerName, type Roaming } from './peer.ts'

const MAX_PEERS = 16_384
const MAX_ALLOWED_IPS = 262_144
const NO_PSK = new Uint8Array(32)

/** What to change of a peer, which is made when it is new; what is absent stays as it is. */
export interface PeerSettings<Endpoint> {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** 32 bytes, copied; zeros for none. For handshakes from now on. */
  readonly presharedKey?: Uint8Array
  readonly endpoint?: Endpoint
  /** 0 for none, up to 65,535. */
  readonly persistentKeepaliveSeconds?: number
  readonly allowedIps?: readonly Prefix[]
  /** Whether `allowedIps` are all that the peer has, rather than more. */
  readonly replaceAllowedIps?: boolean
  readonly roaming?: Roaming
  /** Whether no handshake is to be begun, as it would fail before a pre-shared key is known: packets wait. */
  readonly isHeld?: boolean
}

export type SetPeerError = 'ownKey' | 'unusableKey' | 'malformed' | 'tooManyPeers' | 'tooManyAllowedIps' | 'closed'

/** What `wg show` tells of a peer. */
export interface PeerStatus<Endpoint> {
  readonly publicKey: Uint8Array
  readonly presharedKey: Secret | undefined
  readonly endpoint: Endpoint | undefined
  readonly allowedIps: readonly Prefix[]
  /** Unix time; undefined before the first. */
  readonly latestHandshakeUnixMs: number | undefined
  readonly rxBytes: number
  readonly txBytes: number
  readonly persistentKeepaliveSeconds: number
  /** Whether there are keys to seal with. */
  readonly hasKeys: boolean
}

export class WireGuardDevice<Endpoint> {
  readonly #state: DeviceState<Endpoint>
  readonly #handshakes: Handshakes<Endpoint>
  readonly #packets: Packets<Endpoint>
  #publicKey: Uint8Array

  constructor({ privateKey, ...options }: WireGuardOptions<Endpoint>) {
    this.#state = new DeviceState(options)
    this.#handshakes = new Handshakes(this.#state, (peer, now) => this.#packets.sendStaged(peer, now, true))
    this.#packets = new Packets(this.#state, this.#handshakes)
    const identity = makeIdentity(privateKey)
    this.#publicKey = identity.publicKey
    this.#handshakes.setIdentity(identity)
  }

  get publicKey(): Uint8Array {
    return Uint8Array.from(this.#publicKey)
  }

  get drops(): DropCounts {
    return this.#state.drops
  }

  /** No later than when `handleDeadline` has something to do; Infinity for never. */
  deadline(): number {
    return this.#state.deadline
  }

  isUnderLoad(now: number): boolean {
    return this.#handshakes.isUnderLoad(now)
  }

  /** Takes another identity, 32 bytes that are not kept: every session ends; peers stay, but one of that very key. */
  setPrivateKey(privateKey: Uint8Array): void {
    if (this.#state.isClosed) return
    const identity = makeIdentity(privateKey)
    if (Buffer.compare(identity.publicKey, this.#publicKey) === 0) return
    this.#publicKey = identity.publicKey
    this.#handshakes.setIdentity(identity)
    for (const peer of this.#state.peers.values()) this.#forgetSession(peer)
    this.removePeer(identity.publicKey)
  }

  /** Adds a peer or changes it; says why when it does neither, and then nothing has changed. */
  setPeer(settings: PeerSettings<Endpoint>, now: number): SetPeerError | undefined {
    const state = this.#state
    const { publicKey, presharedKey, endpoint, allowedIps = [], roaming, persistentKeepaliveSeconds, isHeld } = settings
    const name = peerName(publicKey)
    const known = state.peers.get(name)
    const refusal = this.#refusal(settings, known)
    if (refusal !== undefined) return refusal
    const peer = known ?? state.makePeer(publicKey)
    state.peers.set(name, peer)
    if (presharedKey !== undefined) peer.psk.set(presharedKey)
    if (endpoint !== undefined) this.setEndpoint(publicKey, endpoint)
    if (roaming !== undefined) peer.roaming = roaming
    if (isHeld !== undefined) peer.isHeld = isHeld
    if (settings.replaceAllowedIps === true) this.#state.allowedIps.removeAll(peer)
    for (const prefix of allowedIps) this.#state.allowedIps.insert(prefix, peer)
    if (persistentKeepaliveSeconds !== undefined) {
      const isFirst = peer.timers.persistentKeepaliveMs === 0
      peer.timers.setPersistentKeepalive(persistentKeepaliveSeconds * 1_000, now)
      if (isFirst && persistentKeepaliveSeconds > 0) this.#packets.keepalive(peer, now)
      state.arm(peer)
    }
    return undefined
  }

  removePeer(publicKey: Uint8Array): void {
    const peer = this.#peer(publicKey)
    if (peer === undefined) return
    this.#forgetSession(peer)
    peer.timers.setPersistentKeepalive(0, 0)
    peer.endpoint = undefined
    peer.psk.fill(0)
    this.#state.allowedIps.removeAll(peer)
    this.#state.peers.delete(peer.handle.name)
  }

  setEndpoint(publicKey: Uint8Array, endpoint: Endpoint): void {
    const peer = this.#peer(publicKey)
    const { keepEndpoint } = this.#state.options
    if (peer !== undefined) peer.endpoint = keepEndpoint === undefined ? endpoint : keepEndpoint(endpoint)
  }

  /**
   * Begins a handshake at once, keys or not. With an `endpoint` this one initiation goes there, and the peer's own
   * endpoint stays until something authenticated comes from elsewhere. Asked again within 20 ms, for another endpoint,
   * the same initiation goes there too: the first answer counts.
   */
  initiate(publicKey: Uint8Array, now: number, endpoint?: Endpoint): DropReason | undefined {
    const peer = this.#peer(publicKey)
    if (peer === undefined) return this.#state.drop('unknownPeer')
    return this.#handshakes.initiate(peer, now, 'forced', endpoint ?? peer.endpoint)
  }

  /** Sends an empty packet, after a handshake when there are no keys. */
  keepalive(publicKey: Uint8Array, now: number): DropReason | undefined {
    const peer = this.#peer(publicKey)
    return peer === undefined ? this.#state.drop('unknownPeer') : this.#packets.keepalive(peer, now)
  }

  /** Takes a datagram from the network, and opens it in place; says why when it was dropped. */
  receive(buffer: Uint8Array, offset: number, length: number, endpoint: Endpoint, now: number): DropReason | undefined {
    if (this.#state.isClosed) return this.#state.drop('closed')
    if (isTransport(buffer, offset, length)) return this.#packets.receive(buffer, offset, length, endpoint, now)
    if (buffer[offset] === TRANSPORT_TYPE || length > WIREGUARD_HANDSHAKE.initiationBytes) {
      return this.#state.drop('malformed')
    }
    return this.#handshakes.receive(buffer.subarray(offset, offset + length), endpoint, now)
  }

  /**
   * Sends an IP packet to the peer of its destination, sealed in place: 16 bytes before `offset` and 32 behind the packet
   * are overwritten. Without keys a copy waits for them. Says why when the packet was dropped.
   */
  send(buffer: Uint8Array, offset: number, length: number, now: number): DropReason | undefined {
    return this.#state.isClosed ? this.#state.drop('closed') : this.#packets.send(buffer, offset, length, now)
  }

  /** Does what is due at `now`. */
  handleDeadline(now: number): void {
    const state = this.#state
    if (now < state.deadline) return
    state.deadline = Number.POSITIVE_INFINITY
    for (const peer of state.peers.values()) {
      for (let action = peer.timers.take(now); action !== undefined; action = peer.timers.take(now)) {
        switch (action) {
          case 'retransmit':
            this.#handshakes.initiate(peer, now, 'retry')
            break
          case 'initiate':
            this.#handshakes.initiate(peer, now, 'wanted')
            break
          case 'keepalive':
            this.#packets.keepalive(peer, now)
            break
          case 'giveUp':
            this.#giveUp(peer)
            break
          case 'zeroKeys':
            state.dropPending(peer)
            peer.slots.wipe()
            state.options.outlet.event?.({ kind: 'keysWiped', peer: peer.handle })
            break
        }
      }
      state.arm(peer)
    }
  }

  /** All peers as they are; the pre-shared keys are copies. */
  peers(now: number): readonly PeerStatus<Endpoint>[] {
    const prefixes = new Map<Peer<Endpoint>, Prefix[]>()
    for (const [prefix, peer] of this.#state.allowedIps.entries()) {
      const own = prefixes.get(peer)
      if (own === undefined) prefixes.set(peer, [prefix])
      else own.push(prefix)
    }
    return [...this.#state.peers.values()].map(peer => ({
      publicKey: Uint8Array.from(peer.publicKey),
      presharedKey: isZeroKey(peer.psk) ? undefined : new Secret(Uint8Array.from(peer.psk)),
      endpoint: peer.endpoint,
      allowedIps: prefixes.get(peer) ?? [],
      latestHandshakeUnixMs: peer.latestHandshakeUnixMs,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      persistentKeepaliveSeconds: peer.timers.persistentKeepaliveMs / 1_000,
      hasKeys: peer.slots.current !== undefined && this.#packets.canSeal(peer.slots.current, now),
    }))
  }

  /** Wipes all keys and forgets all peers; afterwards every verb drops. */
  close(): void {
    for (const peer of [...this.#state.peers.values()]) this.removePeer(peer.publicKey)
    this.#state.isClosed = true
    this.#state.deadline = Number.POSITIVE_INFINITY
    this.#handshakes.setIdentity(undefined)
  }

  #giveUp(peer: Peer<Endpoint>): void {
    this.#state.dropPending(peer)
    for (const _ of peer.staged.drain()) this.#state.drop('gaveUp')
    this.#state.options.outlet.event?.({ kind: 'gaveUp', peer: peer.handle })
  }

  #forgetSession(peer: Peer<Endpoint>): void {
    this.#state.dropPending(peer)
    peer.slots.wipe()
    peer.timers.reset()
    peer.staged.drain()
    peer.initiationSentMs = Number.NEGATIVE_INFINITY
    peer.cookie = undefined
    peer.lastHandshake = undefined
  }

  #refusal(settings: PeerSettings<Endpoint>, known: Peer<Endpoint> | undefined): SetPeerError | undefined {
    const { publicKey, presharedKey = NO_PSK, allowedIps = [], persistentKeepaliveSeconds: seconds = 0 } = settings
    const { isClosed, options, peers } = this.#state
    if (isClosed) return 'closed'
    if (!allowedIps.every(isPrefix) || presharedKey.length !== 32) return 'malformed'
    if (!Number.isInteger(seconds) || seconds < 0 || seconds > 65_535) return 'malformed'
    if (known === undefined && !isUsableX25519(publicKey)) return 'unusableKey'
    if (Buffer.compare(publicKey, this.#publicKey) === 0) return 'ownKey'
    if (known === undefined && peers.size >= (options.maxPeers ?? MAX_PEERS)) return 'tooManyPeers'
    const most = options.maxAllowedIps ?? MAX_ALLOWED_IPS
    return this.#state.allowedIps.size + allowedIps.length > most ? 'tooManyAllowedIps' : undefined
  }

  #peer(publicKey: Uint8Array): Peer<Endpoint> | undefined {
    return this.#state.peers.get(peerName(publicKey))
  }
}
