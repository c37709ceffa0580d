// A virtual internet with NATs under a virtual clock: hosts in realms, a realm behind each NAT, relays that answer STUN and
// hold ports for others. Behaviour of NATs by RFC 4787; nothing waits, nothing is random but the seed.
//
//   internet ─┬─ relay, relay, relay
//             ├─ NAT ── home: host, host
//             └─ carrier NAT ─┬─ NAT ── home: host
//                             └─ NAT ── home: host

import { type Random, seededRandom } from '#crypto/random.ts'
import { answerBinding } from '#path/answer-binding.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { unwrap, wrap } from './flow-frame.ts'

/** Endpoint-independent, address-dependent, address- and port-dependent (RFC 4787 §4.1, §5). */
export type Dependence = 'independent' | 'address' | 'port'

export interface NatOptions {
  readonly mapping: Dependence
  readonly filtering: Dependence
  readonly ports: 'preserving' | 'sequential' | 'random'
  readonly hairpin?: boolean
  /** Mappings end this long after the last packet outward. */
  readonly lifetimeMs?: number
  /** No UDP goes out at all. */
  readonly blocksUdp?: boolean
}

type Receive = (from: Address, to: Address, bytes: Uint8Array) => void

/** Addresses that reach each other without translation. */
export class Realm {
  readonly hosts = new Map<string, Receive>()
  readonly gateway: VirtualNat | undefined
  readonly delayMs: number

  constructor(gateway: VirtualNat | undefined, delayMs: number) {
    this.gateway = gateway
    this.delayMs = delayMs
  }
}

interface Machine {
  deadline(): number
  handleDeadline(): void
}

const FIRST_PORT = 1_024
const PORTS = 65_536 - FIRST_PORT

export class VirtualInternet {
  now = 1_000_000
  /** Of the datagrams that cross the internet. */
  lossRate = 0
  jitterMs = 4
  /** Two hosts between which nothing passes. */
  cut: readonly [string, string] | undefined
  readonly random: Random
  readonly root = new Realm(undefined, 18)
  /** Datagrams that crossed the internet, by their destination. */
  readonly sentTo = new Map<string, number>()
  readonly machines = new Set<Machine>()
  readonly #events = new EventQueue()
  #noise: number

  constructor(seed: string) {
    this.random = seededRandom(seed)
    this.#noise = Buffer.from(this.random(4)).readUInt32LE()
  }

  /** A number from 0 to 1: cheaper than `random`, as good for weather. */
  chance(): number {
    this.#noise = (Math.imul(this.#noise, 1_664_525) + 1_013_904_223) >>> 0
    return this.#noise / 2 ** 32
  }

  at(atMs: number, run: () => void): void {
    this.#events.add(atMs, run)
  }

  send(realm: Realm, from: Address, to: Address, bytes: Uint8Array): void {
    let delayMs = realm.delayMs
    if (realm === this.root) {
      this.sentTo.set(to.host, (this.sentTo.get(to.host) ?? 0) + 1)
      if (this.chance() < this.lossRate || this.#isCut(from.host, to.host)) return
      delayMs += this.chance() * this.jitterMs
    }
    this.at(this.now + delayMs, () => {
      const receive = realm.hosts.get(to.host)
      if (receive !== undefined) receive(from, to, bytes)
      else realm.gateway?.outward(from, to, bytes)
    })
  }

  #isCut(from: string, to: string): boolean {
    return this.cut !== undefined && this.cut.includes(from) && this.cut.includes(to)
  }

  /** Runs until `until` holds or `limitMs` have passed; says whether it holds. */
  run(limitMs: number, until: () => boolean = () => false): boolean {
    const end = this.now + limitMs
    for (;;) {
      if (until()) return true
      let next = Math.min(end, this.#events.nextMs())
      for (const machine of this.machines) next = Math.min(next, machine.deadline())
      if (next >= end) {
        this.now = end
        return until()
      }
      this.now = Math.max(this.now, next)
      this.#events.runDue(this.now)
      for (const machine of this.machines) if (machine.deadline() <= this.now) machine.handleDeadline()
    }
  }
}

interface Mapping {
  readonly key: string
  readonly inside: Address
  readonly port: number
  readonly contacted: Set<string>
  usedMs: number
}

/** A router that translates: `wan` is its address in the realm outside. */
export class VirtualNat {
  readonly inside: Realm
  readonly #net: VirtualInternet
  readonly #outside: Realm
  readonly #options: NatOptions
  readonly #byKey = new Map<string, Mapping>()
  readonly #byPort = new Map<number, Mapping>()
  #wan: string
  #nextPort: number

  constructor(net: VirtualInternet, outside: Realm, wan: string, options: NatOptions) {
    this.#net = net
    this.#outside = outside
    this.#options = options
    this.#wan = wan
    this.#nextPort = FIRST_PORT + Math.floor(net.chance() * PORTS)
    this.inside = new Realm(this, 1)
    outside.hosts.set(wan, (from, to, bytes) => this.#inward(from, to, bytes))
  }

  get mappings(): number {
    return this.#byPort.size
  }

  /** Every mapping is forgotten; a new address comes with it, if given. */
  reboot(wan = this.#wan): void {
    this.#byKey.clear()
    this.#byPort.clear()
    this.#nextPort = FIRST_PORT + Math.floor(this.#net.chance() * PORTS)
    this.#outside.hosts.delete(this.#wan)
    this.#wan = wan
    this.#outside.hosts.set(wan, (from, to, bytes) => this.#inward(from, to, bytes))
  }

  outward(from: Address, to: Address, bytes: Uint8Array): void {
    if (this.#options.blocksUdp) return
    if (to.host === this.#wan && !this.#options.hairpin) return
    const mapping = this.#map(from, to)
    mapping.contacted.add(contact(this.#options.filtering, to))
    mapping.usedMs = this.#net.now
    const source = { host: this.#wan, port: mapping.port }
    if (to.host === this.#wan) this.#inward(source, to, bytes)
    else this.#net.send(this.#outside, source, to, bytes)
  }

  #inward(from: Address, to: Address, bytes: Uint8Array): void {
    const mapping = this.#byPort.get(to.port)
    if (mapping === undefined || !this.#isAlive(mapping)) return
    if (mapping.contacted.has(contact(this.#options.filtering, from))) {
      this.#net.send(this.inside, from, mapping.inside, bytes)
    }
  }

  #map(inside: Address, to: Address): Mapping {
    const key = `${formatAddress(inside)} ${contact(this.#options.mapping, to)}`
    const known = this.#byKey.get(key)
    if (known !== undefined && this.#isAlive(known)) return known
    const mapping = { key, inside, port: this.#freePort(inside.port), contacted: new Set<string>(), usedMs: 0 }
    this.#byKey.set(key, mapping)
    this.#byPort.set(mapping.port, mapping)
    return mapping
  }

  #isAlive(mapping: Mapping): boolean {
    if (this.#net.now - mapping.usedMs < (this.#options.lifetimeMs ?? 120_000)) return true
    this.#byKey.delete(mapping.key)
    this.#byPort.delete(mapping.port)
    return false
  }

  #freePort(wanted: number): number {
    const { ports } = this.#options
    const isFree = (port: number) => {
      const taken = this.#byPort.get(port)
      return taken === undefined || !this.#isAlive(taken)
    }
    if (ports === 'preserving' && isFree(wanted)) return wanted
    for (;;) {
      const offset = ports === 'random' ? Math.floor(this.#net.chance() * PORTS) : this.#nextPort++ - FIRST_PORT
      const port = FIRST_PORT + (offset % PORTS)
      if (isFree(port)) return port
    }
  }
}

const STUN_PORT = 3_478
const TUNNEL_PORT = 51_821
const FIRST_FLOW_PORT = 20_000

/** A relay: it says where a binding request came from, and holds a port for each of its clients. */
export class VirtualRelay {
  readonly stun: Address
  readonly #net: VirtualInternet
  readonly #clients = new Map<number, (from: Address, bytes: Uint8Array) => void>()
  #nextPort = FIRST_FLOW_PORT

  constructor(net: VirtualInternet, host: string) {
    this.#net = net
    this.stun = { host, port: STUN_PORT }
    net.root.hosts.set(host, (from, to, bytes) => this.#receive(from, to, bytes))
  }

  /** A new flow: its number, which is also the port that the peer sends to. */
  open(): Address {
    return { host: this.stun.host, port: this.#nextPort++ }
  }

  /** A client whose datagrams come in a stream (WebSocket), because it has no UDP. */
  attach(port: number, deliver: (from: Address, bytes: Uint8Array) => void): void {
    this.#clients.set(port, (from, bytes) => {
      this.#net.at(this.#net.now + 25, () => deliver(from, bytes))
    })
  }

  /** What such a client sends. */
  stream(port: number, to: Address, bytes: Uint8Array): void {
    this.#net.at(this.#net.now + 25, () => {
      this.#net.send(this.#net.root, { host: this.stun.host, port }, to, bytes)
    })
  }

  #receive(from: Address, to: Address, bytes: Uint8Array): void {
    const { root } = this.#net
    if (to.port === STUN_PORT) {
      const answer = answerBinding(bytes, from)
      if (answer === undefined) return
      this.#net.send(root, to, from, answer.bytes)
      if (answer.againAfterMs === undefined) return
      this.#net.at(this.#net.now + answer.againAfterMs, () => this.#net.send(root, to, from, answer.bytes))
    } else if (to.port === TUNNEL_PORT) {
      const tunnelled = unwrap(bytes)
      if (tunnelled === undefined) return
      // The session moves to the address that the newest packet came from.
      this.#clients.set(tunnelled.port, (peer, inner) => {
        this.#net.send(root, to, from, wrap(tunnelled.port, peer, inner))
      })
      if (tunnelled.address.port !== 0) {
        this.#net.send(root, { host: to.host, port: tunnelled.port }, tunnelled.address, tunnelled.bytes)
      }
    } else {
      this.#clients.get(to.port)?.(from, bytes)
    }
  }
}

/** Where clients send what their flows carry. */
export function tunnelAddress(relay: VirtualRelay): Address {
  return { host: relay.stun.host, port: TUNNEL_PORT }
}

function contact(dependence: Dependence, to: Address): string {
  return dependence === 'independent' ? '' : dependence === 'address' ? to.host : formatAddress(to)
}

/** A binary heap: events of one moment run in the order they were added. */
class EventQueue {
  readonly #heap: { readonly atMs: number; readonly order: number; readonly run: () => void }[] = []
  #order = 0

  nextMs(): number {
    return this.#heap[0]?.atMs ?? Number.POSITIVE_INFINITY
  }

  add(atMs: number, run: () => void): void {
    const heap = this.#heap
    let at = heap.push({ atMs, order: this.#order++, run }) - 1
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!this.#isBefore(at, parent)) return
      this.#swap(at, parent)
      at = parent
    }
  }

  runDue(now: number): void {
    while (this.nextMs() <= now) this.#pop()?.run()
  }

  #pop() {
    const heap = this.#heap
    const first = heap[0]
    const last = heap.pop()
    if (last === undefined || heap.length === 0) return first
    heap[0] = last
    for (let at = 0; ; ) {
      const left = 2 * at + 1
      if (left >= heap.length) return first
      const child = left + 1 < heap.length && this.#isBefore(left + 1, left) ? left + 1 : left
      if (!this.#isBefore(child, at)) return first
      this.#swap(child, at)
      at = child
    }
  }

  #isBefore(a: number, b: number): boolean {
    const [x, y] = [this.#heap[a], this.#heap[b]]
    if (x === undefined || y === undefined) return false
    return x.atMs === y.atMs ? x.order < y.order : x.atMs < y.atMs
  }

  #swap(a: number, b: number): void {
    const heap = this.#heap
    const [x, y] = [heap[a], heap[b]]
    if (x === undefined || y === undefined) return
    heap[a] = y
    heap[b] = x
  }
}
