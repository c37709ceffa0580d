// A WireGuard device: what the kernel's `wg0` is, as a pure machine (docs/spec/wireguard.md). No sockets, no clock.
//
//   network ─► receive ─┬─ types 1 to 3 ─► handshakes.ts ─────────────────────► outlet.toEndpoint
//                       └─ type 4 ─► index ─► open ─► source is the peer's? ──► outlet.toTunnel
//   tunnel  ─► send ─► destination's peer ─► seal (or wait for keys) ─────────► outlet.toEndpoint
//   clock   ─► handleDeadline ─► timers.ts of every peer ─────────────────────► both
//
// Packets are opened and sealed where they lie; in the steady state nothing is allocated here.

import { Secret } from '#bytes/secret.ts'
import { openInPlace, sealInPlace, TAG_BYTES } from '#crypto/aead.ts'
import { isUsableX25519 } from '#crypto/x25519.ts'
import { ipDestinationOffset, ipFamily, ipLength, ipSourceOffset } from '#wire/ip-header.ts'
import {
  isTransport,
  receiverIndex,
  TRANSPORT_HEADER_BYTES,
  TRANSPORT_OVERHEAD_BYTES,
  TRANSPORT_TYPE,
  transportCounter,
  writeTransportHeader,
} from '#wire/transport.ts'
import { WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'
import { AllowedIps, isPrefix, type Prefix } from './allowed-ips.ts'
import { DeviceState, type WireGuardOptions } from './device-state.ts'
import type { DropCounts, DropReason } from './drops.ts'
import { makeIdentity } from './handshake.ts'
import { Handshakes } from './handshakes.ts'
import type { Keypair } from './keypair.ts'
import { type Peer, peerName, type Roaming } from './peer.ts'
import { TAILROOM_BYTES } from './staged-packets.ts'
import {
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_MS,
  REKEY_AFTER_MESSAGES_PART,
  REKEY_AFTER_MS,
  REKEY_ON_RECEIVE_MS,
} from './timers.ts'

const MTU = 1_420
const MAX_PEERS = 16_384
const MAX_ALLOWED_IPS = 262_144
/** What a UDP datagram over IPv4 holds. */
const MAX_DATAGRAM_BYTES = 65_507
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
  readonly #allowedIps = new AllowedIps<Peer<Endpoint>>()
  readonly #mtu: number
  readonly #maxMessages: number
  #publicKey: Uint8Array

  constructor(options: WireGuardOptions<Endpoint>) {
    this.#mtu = options.mtu ?? MTU
    this.#maxMessages = Math.min(options.maxMessagesPerKey ?? REJECT_AFTER_MESSAGES, REJECT_AFTER_MESSAGES)
    this.#state = new DeviceState(options)
    this.#handshakes = new Handshakes(this.#state, (peer, now) => this.#sendStaged(peer, now, true))
    const identity = makeIdentity(options.privateKey)
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
    const { publicKey, presharedKey, endpoint, allowedIps = [], roaming, persistentKeepaliveSeconds } = settings
    const name = peerName(publicKey)
    const known = state.peers.get(name)
    const refusal = this.#refusal(settings, known)
    if (refusal !== undefined) return refusal
    const peer = known ?? state.makePeer(publicKey)
    state.peers.set(name, peer)
    if (presharedKey !== undefined) peer.psk.set(presharedKey)
    if (endpoint !== undefined) this.setEndpoint(publicKey, endpoint)
    if (roaming !== undefined) peer.roaming = roaming
    if (settings.replaceAllowedIps === true) this.#allowedIps.removeAll(peer)
    for (const prefix of allowedIps) this.#allowedIps.insert(prefix, peer)
    if (persistentKeepaliveSeconds !== undefined) {
      peer.timers.setPersistentKeepalive(persistentKeepaliveSeconds * 1_000, now)
      if (persistentKeepaliveSeconds > 0) this.#keepalive(peer, now)
      state.arm(peer)
    }
    return undefined
  }

  removePeer(publicKey: Uint8Array): void {
    const peer = this.#peer(publicKey)
    if (peer === undefined) return
    this.#forgetSession(peer)
    peer.psk.fill(0)
    this.#allowedIps.removeAll(peer)
    this.#state.peers.delete(peer.handle.name)
  }

  setEndpoint(publicKey: Uint8Array, endpoint: Endpoint): void {
    const peer = this.#peer(publicKey)
    const { keepEndpoint } = this.#state.options
    if (peer !== undefined) peer.endpoint = keepEndpoint === undefined ? endpoint : keepEndpoint(endpoint)
  }

  /**
   * Begins a handshake at once, keys or not. With an `endpoint` this one initiation goes there, and the peer's own
   * endpoint stays until something authenticated comes from elsewhere.
   */
  initiate(publicKey: Uint8Array, now: number, endpoint?: Endpoint): DropReason | undefined {
    const peer = this.#peer(publicKey)
    if (peer === undefined) return this.#state.drop('unknownPeer')
    return this.#handshakes.initiate(peer, now, 'forced', endpoint ?? peer.endpoint)
  }

  /** Sends an empty packet, after a handshake when there are no keys. */
  keepalive(publicKey: Uint8Array, now: number): DropReason | undefined {
    const peer = this.#peer(publicKey)
    return peer === undefined ? this.#state.drop('unknownPeer') : this.#keepalive(peer, now)
  }

  /** Takes a datagram from the network, and opens it in place; says why when it was dropped. */
  receive(buffer: Uint8Array, offset: number, length: number, endpoint: Endpoint, now: number): DropReason | undefined {
    if (this.#state.isClosed) return this.#state.drop('closed')
    if (isTransport(buffer, offset, length)) return this.#receiveTransport(buffer, offset, length, endpoint, now)
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
    const state = this.#state
    if (state.isClosed) return state.drop('closed')
    if (offset < TRANSPORT_HEADER_BYTES || offset + length + TAILROOM_BYTES > buffer.length) return state.drop('noRoom')
    const family = ipFamily(buffer, offset, length)
    if (family === undefined || length > MAX_DATAGRAM_BYTES - TRANSPORT_OVERHEAD_BYTES) {
      return state.drop('innerMalformed')
    }
    const peer = this.#allowedIps.lookup(buffer, offset + ipDestinationOffset(family), family)
    if (peer === undefined) return state.drop('noPeer')
    if (peer.endpoint === undefined) return state.drop('noEndpoint')
    const keypair = peer.slots.current
    if (keypair !== undefined && this.#canSeal(keypair, now)) {
      this.#seal(peer, keypair, buffer, offset, length, now)
      return undefined
    }
    const gone = peer.staged.push(buffer, offset, length)
    for (let i = 0; i < gone; i++) state.drop('stagedOverflow')
    return this.#handshakes.initiate(peer, now, 'wanted')
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
            this.#keepalive(peer, now)
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
    for (const [prefix, peer] of this.#allowedIps.entries()) {
      const own = prefixes.get(peer)
      if (own === undefined) prefixes.set(peer, [prefix])
      else own.push(prefix)
    }
    return [...this.#state.peers.values()].map(peer => ({
      publicKey: Uint8Array.from(peer.publicKey),
      presharedKey: peer.psk.some(byte => byte !== 0) ? new Secret(Uint8Array.from(peer.psk)) : undefined,
      endpoint: peer.endpoint,
      allowedIps: prefixes.get(peer) ?? [],
      latestHandshakeUnixMs: peer.latestHandshakeUnixMs,
      rxBytes: peer.rxBytes,
      txBytes: peer.txBytes,
      persistentKeepaliveSeconds: peer.timers.persistentKeepaliveMs / 1_000,
      hasKeys: peer.slots.current !== undefined && this.#canSeal(peer.slots.current, now),
    }))
  }

  /** Wipes all keys and forgets all peers; afterwards every verb drops. */
  close(): void {
    for (const peer of [...this.#state.peers.values()]) this.removePeer(peer.publicKey)
    this.#state.isClosed = true
    this.#state.deadline = Number.POSITIVE_INFINITY
    this.#handshakes.setIdentity(undefined)
  }

  #receiveTransport(
    buffer: Uint8Array,
    offset: number,
    length: number,
    endpoint: Endpoint,
    now: number,
  ): DropReason | undefined {
    const state = this.#state
    const keypair = state.keypairs.get(receiverIndex(buffer, offset) | 0)
    if (keypair === undefined) return state.drop('unknownIndex')
    if (now - keypair.createdMs >= REJECT_AFTER_MS) return state.drop('expiredKeys')
    const counter = transportCounter(buffer, offset)
    const { window, peer } = keypair
    if (counter >= REJECT_AFTER_MESSAGES || !window.isFresh(counter)) return state.drop('replayedCounter')
    const body = offset + TRANSPORT_HEADER_BYTES
    if (!openInPlace(keypair.receiveKey, counter, buffer, body, length - TRANSPORT_HEADER_BYTES)) {
      return state.drop('forgedPacket')
    }
    const isNewest = counter > window.newest
    window.mark(counter)
    peer.rxBytes += length
    const isFirst = peer.slots.confirm(keypair)
    if (isNewest && speaksForPeer(keypair)) state.roam(peer, endpoint)
    const plain = length - TRANSPORT_OVERHEAD_BYTES
    peer.timers.packetReceived(now)
    if (plain > 0) peer.timers.dataReceived(now)
    if (isFirst) {
      this.#handshakes.completed(peer, now, 'responder')
      this.#sendStaged(peer, now, false)
    }
    this.#renewOnReceive(peer, now)
    state.arm(peer)
    return plain === 0 ? undefined : this.#toTunnel(peer, buffer, body, plain)
  }

  #toTunnel(peer: Peer<Endpoint>, buffer: Uint8Array, offset: number, length: number): DropReason | undefined {
    const state = this.#state
    const family = ipFamily(buffer, offset, length)
    if (family === undefined) return state.drop('innerMalformed')
    const told = ipLength(buffer, offset, family)
    if (told > length || told < 20) return state.drop('innerMalformed')
    if (this.#allowedIps.lookup(buffer, offset + ipSourceOffset(family), family) !== peer) {
      return state.drop('sourceNotAllowed')
    }
    state.options.outlet.toTunnel(peer.handle, buffer, offset, told)
    return undefined
  }

  /** Keys that we initiated are renewed before they end, when packets keep coming and we send none. */
  #renewOnReceive(peer: Peer<Endpoint>, now: number): void {
    const { current } = peer.slots
    if (peer.hasRenewedOnReceive || current === undefined || !current.isInitiator) return
    if (now - current.createdMs < REKEY_ON_RECEIVE_MS) return
    peer.hasRenewedOnReceive = true
    this.#handshakes.initiate(peer, now, 'wanted')
  }

  #seal(
    peer: Peer<Endpoint>,
    keypair: Keypair<Peer<Endpoint>>,
    buffer: Uint8Array,
    offset: number,
    length: number,
    now: number,
  ): void {
    const { endpoint } = peer
    if (endpoint === undefined) {
      this.#state.drop('noEndpoint')
      return
    }
    const padded = length >= this.#mtu ? length : Math.min((length + 15) & ~15, this.#mtu)
    if (padded > length) buffer.fill(0, offset + length, offset + padded)
    const counter = keypair.sendCounter++
    const start = offset - TRANSPORT_HEADER_BYTES
    const sealed = TRANSPORT_HEADER_BYTES + padded + TAG_BYTES
    writeTransportHeader(buffer, start, keypair.remoteIndex, counter)
    sealInPlace(keypair.sendKey, counter, buffer, offset, padded)
    peer.txBytes += sealed
    peer.timers.packetSent(now)
    if (length > 0) peer.timers.dataSent(now)
    this.#state.options.outlet.toEndpoint(peer.handle, endpoint, buffer, start, sealed)
    const isOld = keypair.isInitiator && now - keypair.createdMs >= REKEY_AFTER_MS
    if (isOld || keypair.sendCounter >= this.#maxMessages * REKEY_AFTER_MESSAGES_PART)
      this.#handshakes.initiate(peer, now, 'wanted')
    this.#state.arm(peer)
  }

  /** Sends what waited for keys; when nothing did and `always`, an empty packet, which tells the peer that we have them. */
  #sendStaged(peer: Peer<Endpoint>, now: number, always: boolean): void {
    const keypair = peer.slots.current
    if (keypair === undefined) return
    if (always && peer.staged.size === 0) this.#keepalive(peer, now)
    for (const { buffer, offset, length } of peer.staged.drain()) {
      if (this.#canSeal(keypair, now)) this.#seal(peer, keypair, buffer, offset, length, now)
      else this.#state.drop('gaveUp')
    }
  }

  #keepalive(peer: Peer<Endpoint>, now: number): DropReason | undefined {
    const keypair = peer.slots.current
    if (keypair === undefined || !this.#canSeal(keypair, now)) return this.#handshakes.initiate(peer, now, 'wanted')
    const buffer = Buffer.allocUnsafeSlow(TRANSPORT_OVERHEAD_BYTES)
    this.#seal(peer, keypair, buffer, TRANSPORT_HEADER_BYTES, 0, now)
    return undefined
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
    return this.#allowedIps.size + allowedIps.length > most ? 'tooManyAllowedIps' : undefined
  }

  #canSeal(keypair: Keypair<Peer<Endpoint>>, now: number): boolean {
    return now - keypair.createdMs < REJECT_AFTER_MS && keypair.sendCounter < this.#maxMessages
  }

  #peer(publicKey: Uint8Array): Peer<Endpoint> | undefined {
    return this.#state.peers.get(peerName(publicKey))
  }
}

/** Packets under keys of before say nothing about where the peer is, once one under newer keys has come. */
function speaksForPeer<Endpoint>(keypair: Keypair<Peer<Endpoint>>): boolean {
  const { current } = keypair.peer.slots
  return keypair === current || current === undefined || current.window.newest < 0
}
