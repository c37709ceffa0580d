// Entries: WireGuard servers that are reached through peers. Here each one's client is joined to its legs.
//
//   any WireGuard client ──UDP──► socket ─┐                    ┌─► flow at peer one ──► server
//   our own device on a TUN ──────────────┴─► legs.outward ────┼─► flow at peer two ──► server
//
// Datagrams stay sealed by WireGuard from the client to the server; a leg adds the session with its peer around them.

import { copyBytes } from '#bytes/copy.ts'
import type { EntryClient, Report } from '#forward/commands.ts'
import type { Counters } from '#forward/counters.ts'
import type { Forwarder } from '#forward/forwarder.ts'
import { isSpent, type Leg, Legs } from '#forward/legs.ts'
import type { LegFlow } from '#forward/tables.ts'
import type { Address } from '#wire/address.ts'
import { isTransport, readU32 } from '#wire/transport.ts'
import { isWireGuardHandshake, WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'
import type { DatagramSocket, Datagrams } from './datagrams.ts'

/** Our own device answers within its server's round trip when it is asked; a client of others at the latest when it idles. */
const SILENT_MS = { tunnel: 3_000, socket: 12_000 } as const
const SUSPECT_MS = 1_500
const MAX_INITIATORS = 16
/** What went out before that has reached the server, whatever the way. */
const SEEN_MS = 2_000
const NO_LEGS: readonly Leg[] = []

/** Our own WireGuard device, as an entry's client. */
export interface TunnelClient {
  /** Takes a datagram; whether it was authentic. */
  receive(entry: number, buffer: Uint8Array, offset: number, length: number): boolean
  /** Begins a handshake with the server of `entry`. */
  initiate(entry: number): void
  /** Lets the server know where its client is now. */
  keepalive(entry: number): void
}

interface Entry {
  readonly number: number
  readonly client: EntryClient['kind']
  readonly legs: Legs
  readonly socket: DatagramSocket | undefined
  /** Where the WireGuard client is, on our side: where the handshake came from that the server answered last. */
  clientAddress: Address | undefined
  /** Who began handshakes that are not answered yet, by their index; the oldest goes first. */
  readonly initiators: Map<number, Address>
  /** A packet that went by the leg in use, and is to go by the spare ones. */
  copy: { readonly bytes: Uint8Array; readonly spares: readonly Leg[]; readonly atMs: number } | undefined
  suspectedMs: number
  toldMs: number
}

export class Entries {
  readonly #forwarder: Forwarder
  readonly #datagrams: Datagrams
  readonly #counters: Counters
  readonly #report: (report: Report) => void
  readonly #now: () => number
  readonly #entries = new Map<number, Entry>()
  tunnel: TunnelClient | undefined

  constructor(
    forwarder: Forwarder,
    datagrams: Datagrams,
    counters: Counters,
    report: (report: Report) => void,
    now: () => number,
  ) {
    this.#forwarder = forwarder
    this.#datagrams = datagrams
    this.#counters = counters
    this.#report = report
    this.#now = now
  }

  install(number: number, client: EntryClient): void {
    this.remove(number)
    const socket = client.kind === 'socket' ? this.#listen(number, client.listen) : undefined
    this.#entries.set(number, {
      number,
      client: client.kind,
      legs: new Legs(),
      socket,
      clientAddress: undefined,
      initiators: new Map(),
      copy: undefined,
      suspectedMs: 0,
      toldMs: 0,
    })
  }

  remove(number: number): void {
    const entry = this.#entries.get(number)
    if (entry === undefined) return
    for (const { session } of entry.legs.all) this.removeLeg(number, session)
    entry.socket?.close()
    this.#entries.delete(number)
  }

  installLeg(number: number, session: number, flow: number): void {
    const entry = this.#entries.get(number)
    const flows = this.#forwarder.tables.sessions.get(session)?.flows
    if (entry === undefined || flows === undefined) return
    flows.set(flow, { kind: 'leg', entry: number, leg: entry.legs.add(session, flow) })
  }

  removeLeg(number: number, session: number): void {
    const leg = this.#entries.get(number)?.legs.remove(session)
    if (leg !== undefined) this.#forwarder.tables.sessions.get(session)?.flows.delete(leg.flow)
  }

  useLeg(number: number, session: number | undefined): void {
    const leg = this.#entries.get(number)?.legs.use(session)
    if (leg?.isProven) this.tunnel?.keepalive(number)
  }

  prove(number: number): void {
    if (this.#entries.get(number)?.client === 'tunnel') this.tunnel?.initiate(number)
  }

  /** Sends a datagram of the client to the server; `isFramed` when there is room around it for the layers of the leg. */
  send(number: number, buffer: Uint8Array, offset: number, length: number, isFramed: boolean): void {
    const entry = this.#entries.get(number)
    if (entry === undefined) return
    const now = this.#now()
    const { legs } = entry
    const leg = legs.outward(buffer, offset, length, now)
    if (leg === undefined) {
      if (legs.inUse !== undefined && isSpent(legs.inUse)) this.#silent(entry, legs.inUse, now)
      return this.#counters.add('dropNoLeg')
    }
    if (isTransport(buffer, offset, length)) {
      this.#refresh(entry, buffer, offset, length, now)
      this.#judge(entry, leg, now)
    }
    if (isFramed) this.#forwarder.sendInPlace(leg.session, leg.flow, buffer, offset, length)
    else this.#forwarder.send(leg.session, leg.flow, buffer, offset, length)
  }

  /** A datagram from the server. */
  deliver({ entry: number, leg }: LegFlow, buffer: Uint8Array, offset: number, length: number): void {
    const entry = this.#entries.get(number)
    if (entry === undefined) return
    // Before the device has it: what it sends at once takes a leg that is proven by then.
    const isProof = entry.legs.inward(leg, buffer[offset])
    if (entry.client === 'socket') {
      const to = addressee(entry, buffer, offset, length)
      if (to !== undefined) entry.socket?.send(buffer, offset, length, to)
    } else if (this.tunnel?.receive(number, buffer, offset, length) !== true) {
      // Our own device says whether it is the server's; of somebody else's datagrams only the form can be seen.
      return entry.legs.retract(leg, isProof)
    }
    if (isProof) this.#report({ kind: 'legProven', entry: number, session: leg.session })
  }

  /** Keeps a packet, and sends it by the spare legs with a later one: the server has seen it by then, and follows it to none. */
  #refresh(entry: Entry, buffer: Uint8Array, offset: number, length: number, now: number): void {
    const { copy } = entry
    if (copy !== undefined && now - copy.atMs >= SEEN_MS) {
      for (const { session, flow } of copy.spares) this.#forwarder.send(session, flow, copy.bytes, 0, copy.bytes.length)
      entry.copy = undefined
    }
    const spares = entry.copy === undefined ? entry.legs.refreshed(now) : NO_LEGS
    if (spares.length > 0) entry.copy = { bytes: copyBytes(buffer, offset, offset + length), spares, atMs: now }
  }

  #listen(number: number, listen: Address): DatagramSocket {
    return this.#datagrams.open(
      { bind: listen, isBusy: true },
      {
        onDatagram: (buffer, offset, length, from) => this.#receive(number, buffer, offset, length, from),
        onOpen: address => this.#report({ kind: 'entryReady', entry: number, address }),
        onFailed: code =>
          this.#report({ kind: 'failed', what: `listen for WireGuard on port ${listen.port}: ${code}` }),
      },
    )
  }

  #receive(number: number, buffer: Uint8Array, offset: number, length: number, from: Address): void {
    const entry = this.#entries.get(number)
    if (entry === undefined) return
    const isHandshake = isWireGuardHandshake(buffer, offset, length)
    if (!isHandshake && !isTransport(buffer, offset, length)) return this.#counters.add('dropNotWireGuard')
    entry.clientAddress ??= from
    if (isHandshake && buffer[offset] === WIREGUARD_HANDSHAKE.initiation) {
      const index = readU32(buffer, offset + 4)
      entry.initiators.delete(index)
      entry.initiators.set(index, from)
      if (entry.initiators.size > MAX_INITIATORS) entry.initiators.delete(entry.initiators.keys().next().value ?? index)
    }
    this.send(number, buffer, offset, length, false)
  }

  /** A leg that takes data and gives nothing back: a handshake of our own tells whether the server is still there. */
  #judge(entry: Entry, leg: Leg, now: number): void {
    const silentMs = entry.legs.silentMs(now)
    if (silentMs < SUSPECT_MS) return
    if (entry.client === 'tunnel') {
      // It is asked first and has time to answer: after a pause the last packet may be long unanswered, and mean nothing.
      if (now - entry.suspectedMs > SILENT_MS.tunnel) {
        entry.suspectedMs = now
        return this.tunnel?.initiate(entry.number)
      }
      if (now - entry.suspectedMs < SUSPECT_MS) return
    }
    if (silentMs > SILENT_MS[entry.client]) this.#silent(entry, leg, now)
  }

  #silent(entry: Entry, leg: Leg, now: number): void {
    if (now - entry.toldMs < SILENT_MS[entry.client]) return
    entry.toldMs = now
    this.#report({ kind: 'legSilent', entry: entry.number, session: leg.session })
  }
}

/**
 * Whom a datagram of the server is for. An answer is for who asked, and only a response moves the client: nobody who cannot
 * make the server answer draws packets away.
 */
function addressee(entry: Entry, buffer: Uint8Array, offset: number, length: number): Address | undefined {
  if (!isWireGuardHandshake(buffer, offset, length)) return entry.clientAddress
  const type = buffer[offset]
  if (type === WIREGUARD_HANDSHAKE.cookieReply)
    return entry.initiators.get(readU32(buffer, offset + 4)) ?? entry.clientAddress
  if (type !== WIREGUARD_HANDSHAKE.response) return entry.clientAddress
  const index = readU32(buffer, offset + 8)
  entry.clientAddress = entry.initiators.get(index) ?? entry.clientAddress
  entry.initiators.delete(index)
  return entry.clientAddress
}
