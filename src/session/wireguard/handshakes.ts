// The handshake messages of a WireGuard device, both roles (WireGuard paper §5.4 and §6).
//
//   initiator                       responder
//     │── initiation ─────────────────►│  admission, Noise, known peer, newer timestamp, no flood
//     │◄───────────────────── response │  `next` keys; both may be from a new address, which moves the endpoint
//     │── first transport packet ─────►│  `next` becomes `current`
//
// A cookie reply moves nothing and sets no alarm: it is kept for the next handshake message.

import { readU32 } from '#wire/transport.ts'
import { decodeWireGuardCookieReply, encodeTimestamp, WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'
import { addMacs, openCookie } from '../cookie.ts'
import { Admission } from './admission.ts'
import type { DeviceState } from './device-state.ts'
import type { DropReason } from './drops.ts'
import { type Identity, readInitiation, readResponse, type TransportKeys, writeInitiation } from './handshake.ts'
import { makeKeypair } from './keypair.ts'
import { type Peer, peerName } from './peer.ts'
import { REKEY_TIMEOUT_MS } from './timers.ts'

const MAX_HANDSHAKES_PER_SECOND = 100
const INITIATION_INTERVAL_MS = 20
/** Cookies live 120 s at their maker; five seconds are for the way. */
const COOKIE_LIFETIME_MS = 115_000

/** `wanted` keeps 5 s from the one before, `retry` is the timer's, `forced` the user's. */
export type InitiationCause = 'wanted' | 'retry' | 'forced'

export class Handshakes<Endpoint> {
  readonly #state: DeviceState<Endpoint>
  readonly #established: (peer: Peer<Endpoint>, now: number) => void
  #identity: Identity | undefined
  #admission: Admission | undefined

  /** @param established is called when the initiator has new keys, to send something under them */
  constructor(state: DeviceState<Endpoint>, established: (peer: Peer<Endpoint>, now: number) => void) {
    this.#state = state
    this.#established = established
  }

  /** Handshakes are of this identity from now on; without one there are none. */
  setIdentity(identity: Identity | undefined): void {
    this.#identity = identity
    this.#admission = undefined
  }

  isUnderLoad(now: number): boolean {
    return this.#admission?.isUnderLoad(now) ?? false
  }

  /** Sends an initiation to `endpoint`. */
  initiate(
    peer: Peer<Endpoint>,
    now: number,
    cause: InitiationCause,
    endpoint = peer.endpoint,
  ): DropReason | undefined {
    const state = this.#state
    const { random, unixOffsetMs } = state.options
    if (peer.isHeld) return undefined
    if (cause === 'wanted' && now - peer.initiationSentMs < REKEY_TIMEOUT_MS) return undefined
    if (endpoint === undefined || this.#identity === undefined) return state.drop('noEndpoint')
    // A second initiation would be a flood to the peer; the same one, at another endpoint, is either lost or the first there.
    if (cause === 'forced' && peer.pending !== undefined && now - peer.initiationSentMs < INITIATION_INTERVAL_MS) {
      return this.#send(peer, endpoint, peer.pending.message, now)
    }
    state.dropPending(peer)
    const stamp = encodeTimestamp(now + unixOffsetMs, peer.stampUnixMs)
    const sent = writeInitiation({
      identity: this.#identity,
      remoteStatic: peer.publicKey,
      psk: peer.psk,
      localIndex: state.freeIndex(),
      timestamp: stamp.bytes,
      random,
    })
    if (sent === undefined) return state.drop('unknownPeer')
    peer.pending = sent
    peer.stampUnixMs = stamp.unixMs
    peer.initiationSentMs = now
    state.pending.set(sent.localIndex | 0, peer)
    peer.timers.initiationSent(now, (random(1)[0] ?? 0) / 255, cause === 'retry')
    this.#addMacs(peer, sent.message, sent.localIndex, now)
    return this.#send(peer, endpoint, sent.message, now)
  }

  /** Takes a datagram of type 1 to 3, which is not kept. */
  receive(message: Uint8Array, endpoint: Endpoint, now: number): DropReason | undefined {
    const { initiation, initiationBytes, response, responseBytes, cookieReply } = WIREGUARD_HANDSHAKE
    if (message[0] === cookieReply) return this.#receiveCookieReply(message, now)
    const length = message[0] === initiation ? initiationBytes : message[0] === response ? responseBytes : -1
    if (message.length !== length || (readU32(message, 0) & ~0xff) !== 0) return this.#state.drop('malformed')
    const { random, maxHandshakesPerSecond, endpointBytes, outlet } = this.#state.options
    const identity = this.#identity
    if (identity === undefined) return this.#state.drop('closed')
    this.#admission ??= new Admission(identity, random, maxHandshakesPerSecond ?? MAX_HANDSHAKES_PER_SECOND, now)
    const verdict = this.#admission.admit(message, endpointBytes(endpoint), now)
    if (verdict.kind === 'refused') return this.#state.drop(verdict.reason)
    if (verdict.kind === 'challenged') {
      outlet.toEndpoint(undefined, endpoint, verdict.reply, 0, verdict.reply.length)
      return this.#state.drop('cookieDemanded')
    }
    return message[0] === initiation
      ? this.#receiveInitiation(identity, message, endpoint, now)
      : this.#receiveResponse(message, endpoint, now)
  }

  #receiveInitiation(identity: Identity, message: Uint8Array, endpoint: Endpoint, now: number): DropReason | undefined {
    const state = this.#state
    const received = readInitiation(identity, message, state.options.random)
    if (received === undefined) return state.drop('forgedHandshake')
    const peer = state.peers.get(peerName(received.remoteStatic))
    const refusal = this.#refusal(peer, received.timestamp, now)
    if (peer === undefined || refusal !== undefined) {
      received.discard()
      return state.drop(refusal ?? 'unknownPeer')
    }
    peer.newestTimestamp.set(received.timestamp)
    peer.initiationTakenMs = now
    const localIndex = state.freeIndex()
    const made = received.respond(peer.psk, localIndex)
    if (made === undefined) return state.drop('forgedHandshake')
    peer.rxBytes += message.length
    this.#install(peer, made.keys, localIndex, false, now)
    state.roam(peer, endpoint)
    peer.timers.packetReceived(now)
    this.#addMacs(peer, made.message, localIndex, now)
    // To where the initiation came from: of a peer that is fixed elsewhere too, for there its handshake waits.
    return this.#send(peer, endpoint, made.message, now)
  }

  #refusal(peer: Peer<Endpoint> | undefined, timestamp: Uint8Array, now: number): DropReason | undefined {
    if (peer === undefined) return 'unknownPeer'
    if (Buffer.compare(timestamp, peer.newestTimestamp) <= 0) return 'replayedInitiation'
    return now - peer.initiationTakenMs < INITIATION_INTERVAL_MS ? 'initiationFlood' : undefined
  }

  #receiveResponse(message: Uint8Array, endpoint: Endpoint, now: number): DropReason | undefined {
    const state = this.#state
    const peer = state.pending.get(readU32(message, 8) | 0)
    if (peer?.pending === undefined) return state.drop('unknownIndex')
    const { localIndex } = peer.pending
    const keys = readResponse(peer.pending, message)
    if (keys === undefined) return state.drop('forgedHandshake')
    state.dropPending(peer)
    peer.rxBytes += message.length
    this.#install(peer, keys, localIndex, true, now)
    state.roam(peer, endpoint)
    peer.timers.packetReceived(now)
    this.completed(peer, now, 'initiator')
    this.#established(peer, now)
    return undefined
  }

  /** Both ends have the new keys. */
  completed(peer: Peer<Endpoint>, now: number, role: 'initiator' | 'responder'): void {
    peer.timers.handshakeCompleted()
    peer.hasRenewedOnReceive = false
    peer.latestHandshakeUnixMs = now + this.#state.options.unixOffsetMs
    this.#state.options.outlet.event?.({ kind: 'handshakeCompleted', peer: peer.handle, role })
  }

  #receiveCookieReply(message: Uint8Array, now: number): DropReason | undefined {
    const state = this.#state
    const reply = decodeWireGuardCookieReply(message)
    if (reply === undefined) return state.drop('malformed')
    const key = reply.receiverIndex | 0
    const peer = state.pending.get(key) ?? state.keypairs.get(key)?.peer
    const asked = peer?.lastHandshake
    if (peer === undefined || asked?.localIndex !== reply.receiverIndex) return state.drop('unknownIndex')
    const cookie = openCookie(reply, asked.message, peer.publicKey)
    if (cookie === undefined) return state.drop('forgedCookieReply')
    peer.rxBytes += message.length
    peer.cookie = { bytes: cookie, sinceMs: now }
    peer.lastHandshake = undefined
    return undefined
  }

  #install(peer: Peer<Endpoint>, keys: TransportKeys, localIndex: number, isInitiator: boolean, now: number): void {
    const keypair = makeKeypair({ ...keys, peer, localIndex, isInitiator, createdMs: now })
    peer.slots.install(keypair)
    this.#state.keypairs.set(localIndex | 0, keypair)
    peer.timers.keysMade(now)
  }

  #addMacs(peer: Peer<Endpoint>, message: Uint8Array, localIndex: number, now: number): void {
    const { cookie } = peer
    const isFresh = cookie !== undefined && now - cookie.sinceMs < COOKIE_LIFETIME_MS
    addMacs(message, peer.mac1Key, isFresh ? cookie.bytes : undefined)
    peer.lastHandshake = { message, localIndex }
  }

  #send(peer: Peer<Endpoint>, endpoint: Endpoint, message: Uint8Array, now: number): undefined {
    peer.txBytes += message.length
    peer.timers.packetSent(now)
    this.#state.arm(peer)
    this.#state.options.outlet.toEndpoint(peer.handle, endpoint, message, 0, message.length)
  }
}
