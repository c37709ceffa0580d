// The packet function: what happens to a datagram that arrives, by the tables alone. Every engine runs this one.
//
//   socket ──► open layer ──► datagram of a flow ──► hop: out of the flow's socket
//                 │                                  meeting: into the flow of the other client
//                 │                                  client: open the next layer, or an application's datagram
//                 │                                  client or exit: an IP packet, into the TUN
//                 ├─► stream datagram ──► tap        control, echo ──► report       probe ──► echo back
//   flow socket, tap, association ──► seal layer(s) ──► socket
//
// Packets are opened where they lie and sealed into `Slab` memory with room in front for every layer. Nothing here
// waits, and a packet that finds no entry is counted and dropped.

import { copyBytes } from '#bytes/copy.ts'
import { openInPlace, sealInPlace, TAG_BYTES } from '#crypto/aead.ts'
import type { Address } from '#wire/address.ts'
import { FRAME, FRAME_HEADER_BYTES, frameFlow, PROBE_BYTES, PROBE_TOKEN_BYTES, writeFrameHeader } from '#wire/frame.ts'
import { isHopHandshake } from '#wire/packet-type.ts'
import { isStun } from '#wire/stun.ts'
import {
  isTransport,
  receiverIndex,
  TRANSPORT_HEADER_BYTES,
  TRANSPORT_OVERHEAD_BYTES,
  transportCounter,
  writeTransportHeader,
} from '#wire/transport.ts'
import type { Report, TableCommand, Via } from './commands.ts'
import type { Counter, Counters } from './counters.ts'
import { HEADROOM, Slab } from './slab.ts'
import type {
  AssociationFlow,
  HopFlow,
  KeypairEntry,
  LegFlow,
  MeetingFlow,
  PacketFlow,
  SessionEntry,
} from './tables.ts'
import { Tables } from './tables.ts'
import { TokenBucket } from './token-bucket.ts'

export type ProbeOptions = Omit<Extract<TableCommand, { kind: 'sendProbe' }>, 'kind' | 'session'>

/** Where packets leave to. The bytes belong to the callee until they are sent; no call keeps them longer than that. */
export interface Outlet {
  toSocket(address: Address, buffer: Uint8Array, offset: number, length: number): void
  toFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void
  toTap(session: SessionEntry, buffer: Uint8Array, offset: number, length: number): void
  toAssociation(flow: AssociationFlow, buffer: Uint8Array, offset: number, length: number): void
  toEntry(flow: LegFlow, buffer: Uint8Array, offset: number, length: number): void
  /** `isShed`: the packet is to be marked, or dropped where its sender would not understand. */
  toPort(flow: PacketFlow, buffer: Uint8Array, offset: number, length: number, isShed: boolean): void
  report(report: Report): void
  nowMs(): number
}

const MAX_DEPTH = 8
/** A key seals at most this many packets; handshakes renew it long before. */
const MAX_COUNTER = 2 ** 48
/** A hop takes this much of a client's requests beyond what is paid for: payments are among them. */
const UNPAID_REQUEST_BYTES = 64 * 1024
/** Handshake packets reported and not yet dealt with. */
const MAX_PENDING_HANDSHAKES = 256
/** STUN is reported and not more of it: 500 checks a second, what a peer that guesses our port sends. */
const STUN_BYTES_PER_SECOND = 65_536
export const MAX_DATAGRAM_BYTES = 1800
/** Shorter ones are acknowledgements, probes and calls: no queue is shorter without them. */
const MIN_SHED_BYTES = 256

export class Forwarder {
  readonly tables = new Tables()
  readonly #outlet: Outlet
  readonly #counters: Counters
  /** Where packets are sealed: an engine that sends from memory tells the kernel where it is. */
  readonly slab = new Slab()
  #handshakeRoom = MAX_PENDING_HANDSHAKES
  #dropped = 0
  #lendsHops = false
  #lentRate = new TokenBucket(Number.POSITIVE_INFINITY, 0)
  readonly #stunRate: TokenBucket
  /** The queue that datagrams come from now stands: the next that is long enough is dropped, or marked where it is seen what it is. */
  shedsNext = false
  /** Laboratory only: sees every datagram and every opened packet. */
  watch: ((buffer: Uint8Array, offset: number, length: number, isInside: boolean) => void) | undefined

  constructor(outlet: Outlet, counters: Counters) {
    this.#outlet = outlet
    this.#counters = counters
    this.#stunRate = new TokenBucket(STUN_BYTES_PER_SECOND, outlet.nowMs())
  }

  /** Carries out a command that needs no socket. */
  apply(command: TableCommand): void {
    switch (command.kind) {
      case 'installKeys':
        return this.tables.installKeys(command.session, command.keys)
      case 'removeKeys':
        return this.tables.removeKeys(command.session, command.localIndex)
      case 'setVia':
        return this.tables.setVia(command.session, command.via)
      case 'installNesting':
        return this.tables.installNesting(command.session, command.flow)
      case 'sendHandshake':
        return this.sendHandshake(command.via, command.bytes)
      case 'sendControl':
        return this.sendControl(command.session, command.bytes)
      case 'sendProbe':
        return this.sendProbe(command.session, command)
      case 'grantHandshakes':
        return this.grantHandshakes(command.count)
      case 'installMeeting':
        return this.tables.installMeeting(command.session, command.flow, command.bytesPerSecond, this.#outlet.nowMs())
      case 'joinMeeting':
        return this.tables.joinMeeting(command.flows)
      case 'limitLent':
        this.#lendsHops = command.hops
        this.#lentRate = new TokenBucket(command.bytesPerSecond, this.#outlet.nowMs())
        return
      case 'limitSession': {
        const entry = this.tables.sessions.get(command.session)
        if (entry === undefined) return
        entry.limitBytes = command.bytes
        return this.#checkLimit(entry)
      }
      case 'reportUse': {
        const entry = this.tables.sessions.get(command.session)
        return entry && this.#reportUse(entry)
      }
      case 'reportSession': {
        const { packets, bytes } = this.tables.sessions.get(command.session) ?? { packets: 0, bytes: 0 }
        return this.#outlet.report({ kind: 'sessionReport', request: command.request, packets, bytes })
      }
    }
  }

  /** The control plane dealt with `count` reported handshake packets. */
  grantHandshakes(count: number): void {
    this.#handshakeRoom = Math.min(this.#handshakeRoom + count, MAX_PENDING_HANDSHAKES)
  }

  /** A socket has a backlog: sealed packets are still to be read. */
  retainPackets(): void {
    this.slab.retain()
  }

  /** A datagram from the node's own socket. `buffer` is ours and is overwritten. */
  receive(buffer: Uint8Array, offset: number, length: number, from: Address): void {
    this.#counters.add('datagramsIn')
    this.#counters.add('bytesIn', length)
    this.watch?.(buffer, offset, length, false)
    if (isTransport(buffer, offset, length)) {
      this.#open(buffer, offset, length, from, undefined, 0)
    } else {
      this.#handshake(buffer, offset, length, from, undefined)
    }
  }

  /** A datagram from the far end of a hop's flow. */
  receiveFromFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void {
    this.#counters.add('datagramsIn')
    this.#counters.add('bytesIn', length)
    this.watch?.(buffer, offset, length, false)
    if (length > MAX_DATAGRAM_BYTES) return this.#drop('dropTooLong')
    if (flow.proof?.admitsInward(buffer, offset, length) === false) return this.#drop('dropFlowType')
    if (isUsedUp(flow.session)) return this.#drop('dropUnpaid')
    if (this.#sheds(length)) return this.#drop('dropStandingQueue')
    flow.lastUsedMs = this.#outlet.nowMs()
    if (this.#isLent(flow) && !this.#mayLend('lentBytesIn', length, flow.lastUsedMs)) return
    this.#frame(flow.session, FRAME.datagram, flow.flow, buffer, offset, length)
  }

  /** A datagram that the stream library wrote to a session's tap. */
  receiveFromTap(session: SessionEntry, buffer: Uint8Array, offset: number, length: number, maxLength: number): void {
    if (length > maxLength) return this.#drop('dropTooLong')
    if (isUsedUp(session)) return this.#drop('dropUnpaid')
    if (this.#sheds(length)) return this.#drop('dropStandingQueue')
    this.#frame(session, FRAME.stream, 0, buffer, offset, length)
  }

  /** Sends a datagram in a flow of a client's session. */
  send(session: number, flow: number, buffer: Uint8Array, offset: number, length: number): void {
    const entry = this.tables.sessions.get(session)
    if (entry === undefined) return this.#drop('dropUnknownSession')
    if (length > MAX_DATAGRAM_BYTES) return this.#drop('dropTooLong')
    this.#frame(entry, FRAME.datagram, flow, buffer, offset, length)
  }

  /** The same without a copy: the datagram lies in the slab, with room around it for every layer. */
  sendInPlace(session: number, flow: number, buffer: Uint8Array, offset: number, length: number): void {
    const entry = this.tables.sessions.get(session)
    if (entry === undefined) return this.#drop('dropUnknownSession')
    const framed = FRAME_HEADER_BYTES + length
    writeFrameHeader(buffer, offset - FRAME_HEADER_BYTES, FRAME.datagram, flow)
    entry.packets++
    entry.bytes += framed
    entry.sent += length
    this.#checkLimit(entry)
    this.#seal(entry, entry.via, buffer, offset - FRAME_HEADER_BYTES, framed, 0)
  }

  /** Sends a handshake message as it is, along `via`. */
  sendHandshake(via: Via, bytes: Uint8Array): void {
    if (via.kind === 'socket') {
      this.#count(bytes.length)
      this.#outlet.toSocket(via.address, bytes, 0, bytes.length)
      return
    }
    const entry = this.tables.sessions.get(via.session)
    if (entry !== undefined) this.#frame(entry, FRAME.datagram, via.flow, bytes, 0, bytes.length)
  }

  sendControl(session: number, bytes: Uint8Array): void {
    const entry = this.tables.sessions.get(session)
    if (entry !== undefined) this.#frame(entry, FRAME.control, 0, bytes, 0, bytes.length)
  }

  /** Sends a probe along `via`, or the session's own way; padded when it is to have more `bytes` than its token. */
  sendProbe(session: number, { via, claims, token, bytes = 0 }: ProbeOptions): void {
    const entry = this.tables.sessions.get(session)
    if (entry === undefined) return
    const kind = claims ? FRAME.claim : FRAME.probe
    const padded = bytes > token.length ? new Uint8Array(Math.min(bytes, MAX_DATAGRAM_BYTES)) : token
    if (padded !== token) padded.set(token)
    const at = this.#stage(kind, 0, padded, 0, padded.length)
    this.#seal(entry, via ?? entry.via, this.slab.buffer, at, FRAME_HEADER_BYTES + padded.length, 0)
  }

  /** Sends the datagram that opened a hop's flow. */
  sendFirst(flow: HopFlow, bytes: Uint8Array): void {
    this.#toFlow(flow, bytes, 0, bytes.length)
  }

  #open(
    buffer: Uint8Array,
    offset: number,
    length: number,
    from: Address | undefined,
    via: Via | undefined,
    depth: number,
  ): void {
    const keypair = this.tables.keypairs.get(receiverIndex(buffer, offset))
    if (keypair === undefined) return this.#drop('dropUnknownSession')
    const counter = transportCounter(buffer, offset)
    if (counter >= MAX_COUNTER || !keypair.window.isFresh(counter)) return this.#drop('dropReplayed')
    const body = offset + TRANSPORT_HEADER_BYTES
    if (!openInPlace(keypair.receive, counter, buffer, body, length - TRANSPORT_HEADER_BYTES)) {
      return this.#drop('dropForged')
    }
    const isNewest = counter > keypair.window.newest
    keypair.window.mark(counter)
    const plain = length - TRANSPORT_OVERHEAD_BYTES
    const session = keypair.session
    session.packets++
    session.bytes += plain
    this.#counters.add('framesOpened')
    this.watch?.(buffer, body, plain, true)
    if (!keypair.isConfirmed) this.#confirm(session, keypair)
    if (isNewest && session.role === 'responder' && from !== undefined && buffer[body] !== FRAME.probe) {
      this.#roam(session, keypair, from)
    }
    if (plain === 0) return
    if (plain < FRAME_HEADER_BYTES) return this.#drop('dropUnknownFrame')
    const kind = buffer[body] ?? 0
    const dropped = this.#dropped
    this.#dispatch(session, buffer, body, plain, from, via, depth)
    // What was dropped, here or in a layer further in, was nobody's request: it does not count.
    if (kind < FRAME.datagram || kind > FRAME.stream || this.#dropped !== dropped) return
    session.received += plain - FRAME_HEADER_BYTES
    this.#checkLimit(session)
  }

  #dispatch(
    session: SessionEntry,
    buffer: Uint8Array,
    offset: number,
    length: number,
    from: Address | undefined,
    via: Via | undefined,
    depth: number,
  ): void {
    const body = offset + FRAME_HEADER_BYTES
    const bodyLength = length - FRAME_HEADER_BYTES
    switch (buffer[offset]) {
      case FRAME.datagram: {
        const flow = session.flows.get(frameFlow(buffer, offset))
        if (flow === undefined) return this.#drop('dropUnknownFlow')
        if (flow.kind === 'packets') {
          return this.#outlet.toPort(flow, buffer, body, bodyLength, this.#sheds(bodyLength))
        }
        if (flow.kind !== 'nesting' && this.#sheds(bodyLength)) return this.#drop('dropStandingQueue')
        if (flow.kind === 'hop') {
          if (isUsedUp(session)) return this.#drop('dropUnpaid')
          return this.#toFlow(flow, buffer, body, bodyLength)
        }
        if (flow.kind === 'association') return this.#outlet.toAssociation(flow, buffer, body, bodyLength)
        if (flow.kind === 'leg') return this.#outlet.toEntry(flow, buffer, body, bodyLength)
        if (flow.kind === 'meeting') return this.#toOther(flow, buffer, body, bodyLength)
        if (depth >= MAX_DEPTH) return this.#drop('dropTooDeep')
        if (isTransport(buffer, body, bodyLength)) {
          return this.#open(buffer, body, bodyLength, undefined, flow.via, depth + 1)
        }
        return this.#handshake(buffer, body, bodyLength, undefined, flow.via)
      }
      case FRAME.stream:
        if (!session.hasTap) return this.#drop('dropUnknownFlow')
        if (isUsedUp(session)) return this.#drop('dropUnpaid')
        if (this.#sheds(bodyLength)) return this.#drop('dropStandingQueue')
        return this.#outlet.toTap(session, buffer, body, bodyLength)
      case FRAME.control:
        if (isUsedUp(session, UNPAID_REQUEST_BYTES)) return this.#drop('dropUnpaid')
        return this.#outlet.report({
          kind: 'control',
          session: session.session,
          bytes: copyBytes(buffer, body, body + bodyLength),
        })
      case FRAME.probe:
      case FRAME.claim:
        if (length < PROBE_BYTES || bodyLength > MAX_DATAGRAM_BYTES) return this.#drop('dropUnknownFrame')
        return this.#echo(session, buffer, body, bodyLength, from, via)
      case FRAME.echo: {
        if (length < PROBE_BYTES) return this.#drop('dropUnknownFrame')
        const token = copyBytes(buffer, body, body + PROBE_TOKEN_BYTES)
        const atMs = this.#outlet.nowMs()
        return this.#outlet.report({ kind: 'echo', session: session.session, token, bytes: bodyLength, atMs })
      }
      case FRAME.padding:
        return
      default:
        return this.#drop('dropUnknownFrame')
    }
  }

  #toFlow(flow: HopFlow, buffer: Uint8Array, offset: number, length: number): void {
    if (flow.proof?.admitsOutward(buffer, offset, length) === false) return this.#drop('dropUnproven')
    flow.lastUsedMs = this.#outlet.nowMs()
    if (this.#isLent(flow) && !this.#mayLend('lentBytesOut', length, flow.lastUsedMs)) return
    this.#count(length)
    this.#outlet.toFlow(flow, buffer, offset, length)
  }

  /** From one client of a meeting to the other, sealed anew for it; what is inside is not looked at. */
  #toOther(flow: MeetingFlow, buffer: Uint8Array, offset: number, length: number): void {
    const { session, other, rate } = flow
    if (other === undefined) return this.#drop('dropUnknownFlow')
    if (length > MAX_DATAGRAM_BYTES) return this.#drop('dropTooLong')
    if (isUsedUp(session) || isUsedUp(other.session)) return this.#drop('dropUnpaid')
    flow.lastUsedMs = this.#outlet.nowMs()
    if (!rate.take(length, flow.lastUsedMs)) return this.#drop('dropRateLimit')
    this.#frame(other.session, FRAME.datagram, other.flow, buffer, offset, length)
  }

  #isLent({ proof }: HopFlow): boolean {
    return proof?.kind === 'wireguard' || (this.#lendsHops && proof?.kind === 'hop')
  }

  /** Counts what is lent, and keeps it within what the operator gives. */
  #mayLend(counter: 'lentBytesIn' | 'lentBytesOut', length: number, now: number): boolean {
    if (!this.#lentRate.take(length, now)) {
      this.#drop('dropRateLimit')
      return false
    }
    this.#counters.add(counter, length)
    return true
  }

  #echo(
    session: SessionEntry,
    buffer: Uint8Array,
    body: number,
    bodyLength: number,
    from: Address | undefined,
    via: Via | undefined,
  ): void {
    const at = this.#stage(FRAME.echo, 0, buffer, body, bodyLength)
    const back: Via | undefined = from === undefined ? via : { kind: 'socket', address: from }
    this.#seal(session, back ?? session.via, this.slab.buffer, at, FRAME_HEADER_BYTES + bodyLength, 0)
  }

  #frame(session: SessionEntry, kind: number, flow: number, bytes: Uint8Array, offset: number, length: number): void {
    const at = this.#stage(kind, flow, bytes, offset, length)
    session.packets++
    session.bytes += FRAME_HEADER_BYTES + length
    session.sent += length
    this.#checkLimit(session)
    this.#seal(session, session.via, this.slab.buffer, at, FRAME_HEADER_BYTES + length, 0)
  }

  /** Copies a frame into the slab, with room around it for every layer; returns where it begins. */
  #stage(kind: number, flow: number, bytes: Uint8Array, offset: number, length: number): number {
    const at = this.slab.take(FRAME_HEADER_BYTES + length) + HEADROOM
    const buffer = this.slab.buffer
    writeFrameHeader(buffer, at, kind, flow)
    buffer.set(bytes.subarray(offset, offset + length), at + FRAME_HEADER_BYTES)
    return at
  }

  #seal(session: SessionEntry, via: Via, buffer: Uint8Array, offset: number, length: number, depth: number): void {
    const keypair = session.current
    if (session.keypairs.length === 0) return this.#drop('dropNoKeys')
    if (keypair.sendCounter >= MAX_COUNTER) return this.#drop('dropCounterExhausted')
    if (depth >= MAX_DEPTH) return this.#drop('dropTooDeep')
    const counter = keypair.sendCounter++
    const start = offset - TRANSPORT_HEADER_BYTES
    writeTransportHeader(buffer, start, keypair.remoteIndex, counter)
    sealInPlace(keypair.send, counter, buffer, offset, length)
    const sealed = TRANSPORT_HEADER_BYTES + length + TAG_BYTES
    if (via.kind === 'socket') {
      this.#count(sealed)
      this.#outlet.toSocket(via.address, buffer, start, sealed)
      return
    }
    const parent = this.tables.sessions.get(via.session)
    if (parent === undefined) return this.#drop('dropUnknownSession')
    writeFrameHeader(buffer, start - FRAME_HEADER_BYTES, FRAME.datagram, via.flow)
    parent.sent += sealed
    this.#checkLimit(parent)
    this.#seal(parent, parent.via, buffer, start - FRAME_HEADER_BYTES, sealed + FRAME_HEADER_BYTES, depth + 1)
  }

  #confirm(session: SessionEntry, keypair: KeypairEntry): void {
    keypair.isConfirmed = true
    if (session.role === 'initiator') return
    session.current = keypair
    this.#outlet.report({ kind: 'confirmed', session: session.session, localIndex: keypair.localIndex })
  }

  #roam(session: SessionEntry, keypair: KeypairEntry, from: Address): void {
    const via = session.via
    if (keypair !== session.current) return
    if (via.kind === 'socket' && via.address.port === from.port && via.address.host === from.host) return
    session.via = { kind: 'socket', address: { host: from.host, port: from.port } }
    this.#counters.add('roamed')
  }

  #handshake(
    buffer: Uint8Array,
    offset: number,
    length: number,
    from: Address | undefined,
    via: Via | undefined,
  ): void {
    if (!isHopHandshake(buffer, offset, length)) {
      if (from !== undefined && isStun(buffer, offset, length)) return this.#stun(buffer, offset, length, from)
      return this.#drop(
        length < 4 ? 'dropTooShort' : (buffer[offset] ?? 0) > 7 ? 'dropUnknownType' : 'dropHandshakeLength',
      )
    }
    if (this.#handshakeRoom === 0) return this.#drop('dropHandshakeQueue')
    this.#handshakeRoom--
    const arrival: Via = via ?? { kind: 'socket', address: { host: from?.host ?? '', port: from?.port ?? 0 } }
    this.#outlet.report({ kind: 'handshake', bytes: copyBytes(buffer, offset, offset + length), from: arrival })
  }

  /** Tells a client once that a session has used up what it was given. */
  #checkLimit(session: SessionEntry): void {
    if (session.sent + session.received < session.limitBytes || session.role === 'responder') return
    session.limitBytes = Number.POSITIVE_INFINITY
    this.#reportUse(session)
  }

  #reportUse({ session, sent, received }: SessionEntry): void {
    this.#outlet.report({ kind: 'sessionUse', session, sent, received })
  }

  #stun(buffer: Uint8Array, offset: number, length: number, from: Address): void {
    if (!this.#stunRate.take(length, this.#outlet.nowMs())) return this.#drop('dropRateLimit')
    const bytes = copyBytes(buffer, offset, offset + length)
    this.#outlet.report({ kind: 'stun', bytes, from: { host: from.host, port: from.port } })
  }

  /** Whether this is the datagram that is to be shed. */
  #sheds(length: number): boolean {
    if (!this.shedsNext || length < MIN_SHED_BYTES) return false
    this.shedsNext = false
    return true
  }

  #count(length: number): void {
    this.#counters.add('datagramsOut')
    this.#counters.add('bytesOut', length)
  }

  #drop(reason: Counter): void {
    this.#dropped++
    this.#counters.add(reason)
  }
}

/** Whether a hop has carried what was paid for, and `more`. */
function isUsedUp(session: SessionEntry, more = 0): boolean {
  return session.role === 'responder' && session.sent + session.received >= session.limitBytes + more
}
