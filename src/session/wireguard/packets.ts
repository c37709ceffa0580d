// The transport packets of a WireGuard device: opened and sealed where they lie (WireGuard paper §5.4.6, §6.2 to §6.5).
// In the steady state nothing is allocated here.

import { openInPlace, sealInPlace, TAG_BYTES } from '#crypto/aead.ts'
import { ipDestinationOffset, ipFamily, ipLength, ipSourceOffset } from '#wire/ip-header.ts'
import {
  receiverIndex,
  TRANSPORT_HEADER_BYTES,
  TRANSPORT_OVERHEAD_BYTES,
  transportCounter,
  writeTransportHeader,
} from '#wire/transport.ts'
import type { DeviceState } from './device-state.ts'
import type { DropReason } from './drops.ts'
import type { Handshakes } from './handshakes.ts'
import type { Keypair } from './keypair.ts'
import type { Peer } from './peer.ts'
import { TAILROOM_BYTES } from './staged-packets.ts'
import {
  REJECT_AFTER_MESSAGES,
  REJECT_AFTER_MS,
  REKEY_AFTER_MESSAGES_PART,
  REKEY_AFTER_MS,
  REKEY_ON_RECEIVE_MS,
} from './timers.ts'

const MTU = 1_420
/** What a UDP datagram over IPv4 holds. */
const MAX_DATAGRAM_BYTES = 65_507

export class Packets<Endpoint> {
  readonly #state: DeviceState<Endpoint>
  readonly #handshakes: Handshakes<Endpoint>
  readonly #mtu: number
  readonly #maxMessages: number

  constructor(state: DeviceState<Endpoint>, handshakes: Handshakes<Endpoint>) {
    const { mtu = MTU, maxMessagesPerKey = REJECT_AFTER_MESSAGES } = state.options
    this.#state = state
    this.#handshakes = handshakes
    this.#mtu = mtu
    this.#maxMessages = Math.min(maxMessagesPerKey, REJECT_AFTER_MESSAGES)
  }

  /** Takes a datagram of type 4, and opens it in place; says why when it was dropped. */
  receive(buffer: Uint8Array, offset: number, length: number, endpoint: Endpoint, now: number): DropReason | undefined {
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
      this.sendStaged(peer, now, false)
    }
    this.#renewOnReceive(peer, now)
    state.arm(peer)
    return plain === 0 ? undefined : this.#toTunnel(peer, buffer, body, plain)
  }

  /** Sends an IP packet, as `WireGuardDevice.send` does. */
  send(buffer: Uint8Array, offset: number, length: number, now: number): DropReason | undefined {
    const state = this.#state
    if (offset < TRANSPORT_HEADER_BYTES || offset + length + TAILROOM_BYTES > buffer.length) return state.drop('noRoom')
    const family = ipFamily(buffer, offset, length)
    if (family === undefined || length > MAX_DATAGRAM_BYTES - TRANSPORT_OVERHEAD_BYTES) {
      return state.drop('innerMalformed')
    }
    const peer = state.allowedIps.lookup(buffer, offset + ipDestinationOffset(family), family)
    if (peer === undefined) return state.drop('noPeer')
    if (peer.endpoint === undefined) return state.drop('noEndpoint')
    const keypair = peer.slots.current
    if (keypair !== undefined && this.canSeal(keypair, now)) {
      this.#seal(peer, keypair, buffer, offset, length, now)
      return undefined
    }
    const gone = peer.staged.push(buffer, offset, length)
    for (let i = 0; i < gone; i++) state.drop('stagedOverflow')
    return this.#handshakes.initiate(peer, now, 'wanted')
  }

  /** Sends what waited for keys; when nothing did and `always`, an empty packet, which tells the peer that we have them. */
  sendStaged(peer: Peer<Endpoint>, now: number, always: boolean): void {
    const keypair = peer.slots.current
    if (keypair === undefined) return
    if (always && peer.staged.size === 0) this.keepalive(peer, now)
    for (const { buffer, offset, length } of peer.staged.drain()) {
      if (this.canSeal(keypair, now)) this.#seal(peer, keypair, buffer, offset, length, now)
      else this.#state.drop('gaveUp')
    }
  }

  /** Sends an empty packet, after a handshake when there are no keys. */
  keepalive(peer: Peer<Endpoint>, now: number): DropReason | undefined {
    const keypair = peer.slots.current
    if (keypair === undefined || !this.canSeal(keypair, now)) return this.#handshakes.initiate(peer, now, 'wanted')
    const buffer = Buffer.allocUnsafeSlow(TRANSPORT_OVERHEAD_BYTES)
    this.#seal(peer, keypair, buffer, TRANSPORT_HEADER_BYTES, 0, now)
    return undefined
  }

  /** Whether keys are neither too old nor used too often. */
  canSeal(keypair: Keypair<Peer<Endpoint>>, now: number): boolean {
    return now - keypair.createdMs < REJECT_AFTER_MS && keypair.sendCounter < this.#maxMessages
  }

  #toTunnel(peer: Peer<Endpoint>, buffer: Uint8Array, offset: number, length: number): DropReason | undefined {
    const state = this.#state
    const family = ipFamily(buffer, offset, length)
    if (family === undefined) return state.drop('innerMalformed')
    const told = ipLength(buffer, offset, family)
    if (told > length || told < 20) return state.drop('innerMalformed')
    if (state.allowedIps.lookup(buffer, offset + ipSourceOffset(family), family) !== peer) {
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
}

/** Packets under keys of before say nothing about where the peer is, once one under newer keys has come. */
function speaksForPeer<Endpoint>(keypair: Keypair<Peer<Endpoint>>): boolean {
  const { current } = keypair.peer.slots
  return keypair === current || current === undefined || current.window.newest < 0
}
