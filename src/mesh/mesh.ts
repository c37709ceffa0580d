// One's devices as a network: WireGuard between this one and each of the others, along the paths that are found to them. A
// pure machine.
//
//   TUN  ──► send ────► firewall remembers ──► sealed ──► outlet.toPeer
//   path ──► receive ─► opened ──► firewall: may it come in? ──► outlet.toTunnel
//
// A packet goes to a device only along its path, which proved itself; the address that a packet came from counts for nothing
// here, but that a cookie reply (whose receiver cannot be known) goes back there, and whatever goes to a plain WireGuard peer.
// The pre-shared key of each tunnel is renewed by secret-renewal.ts. Bounds: 64 peers; 64 echoes under way.

import type { Random } from '#crypto/random.ts'
import { AllowedIps } from '#session/wireguard/allowed-ips.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { type Address, parseIp } from '#wire/address.ts'
import { echoReply, echoRequest, echoSequence } from '#wire/icmp-echo.ts'
import { ipDestinationOffset, ipFamily, ipSourceOffset } from '#wire/ip-header.ts'
import type { IpPrefix } from '#wire/ip-prefix.ts'
import { Firewall, type PortRule } from './firewall.ts'
import { isRenewal, SecretRenewal } from './secret-renewal.ts'

/** An IP packet in the tunnel is no longer: what IPv6 demands of every link, and every way can carry. */
export const MESH_MTU = 1_280
/** What `send` needs before a packet and behind it. */
const HEADROOM = 16
const TAILROOM = 32
const MAX_PEERS = 64
const MAX_ECHOES = 64
const ECHO_BYTES = 56
const ECHO_MS = 5_000

export interface MeshPeer {
  /** A number of the caller. */
  readonly peer: number
  readonly publicKey: Uint8Array
  /** The secret of the conversation, which the pre-shared key is made from; for a plain peer the key itself. */
  readonly presharedKey: Uint8Array
  /** Its own addresses; the first one is asked for echoes. */
  readonly addresses: readonly string[]
  readonly rules: readonly PortRule[]
  /** Networks that are reached through it. What comes from there may answer, and begin nothing. */
  readonly networks?: readonly IpPrefix[]
  /** Networks behind us that it may reach; without any it reaches this device alone. */
  readonly reaches?: readonly IpPrefix[]
  /** A plain WireGuard peer: it is answered where its authenticated packets come from, and has no path. */
  readonly isPlain?: boolean
}

/** Where a datagram came from. */
export interface Origin {
  readonly local: number
  readonly from: Address
}

export interface MeshOptions {
  readonly privateKey: Uint8Array
  /** Our own; the first is of the kind that peers are asked for echoes at. */
  readonly addresses: readonly string[]
  readonly random: Random
  /** Unix time minus `now`. */
  readonly unixOffsetMs: number
  /** Along the path to a peer: a packet of the TUN where it lies, the rest in memory of its own. */
  readonly toPeer: (peer: number, buffer: Uint8Array, offset: number, length: number) => void
  /** Back to where a datagram came from. */
  readonly toOrigin: (origin: Origin, buffer: Uint8Array, offset: number, length: number) => void
  /** Whether there is an agreed secret with a peer; without one its tunnel stands still. */
  readonly onSecret?: (peer: number, isAgreed: boolean) => void
  /** To the TUN; without one, echoes are answered here, and nothing else is. */
  readonly toTunnel?: (buffer: Uint8Array, offset: number, length: number) => void
}

export interface MeshStatus {
  readonly peer: number
  /** Whether both have keys in common. */
  readonly isUp: boolean
  readonly rxBytes: number
  readonly txBytes: number
}

/** A peer, and which addresses count as its own and as within its reach. */
interface Known {
  readonly peer: MeshPeer
  readonly sources: AllowedIps<object>
  readonly reaches: AllowedIps<object>
}

interface Echo {
  readonly peer: number
  readonly sentMs: number
  readonly done: (rttMs: number | undefined) => void
}

/** What looks like a message of a renewal may be any peer's: this many are tried in a second, a peer at a time. */
const MAX_TRIALS_PER_SECOND = 10_000

const NO_RULES: readonly PortRule[] = []
const PATH: Origin = { local: -1, from: { host: '', port: 0 } }

export class Mesh {
  readonly firewall = new Firewall()
  /** Packets of devices that were not let in. */
  refused = 0
  readonly #options: MeshOptions
  readonly #device: WireGuardDevice<Origin>
  readonly #own: AllowedIps<object>
  readonly #peers = new Map<string, Known>()
  readonly #echoes = new Map<number, Echo>()
  /** By the peer's name. */
  readonly #renewals = new Map<string, SecretRenewal>()
  /** Names of peers with whom no secret is agreed. */
  readonly #unagreed = new Set<string>()
  #trials = { sinceMs: 0, count: 0 }
  #nextEcho = 0
  #now = 0

  constructor(options: MeshOptions) {
    this.#options = options
    this.#own = rangesOf(options.addresses.map(wholeAddress))
    this.#device = new WireGuardDevice<Origin>({
      privateKey: options.privateKey,
      random: options.random,
      unixOffsetMs: options.unixOffsetMs,
      mtu: MESH_MTU,
      maxPeers: MAX_PEERS,
      sameEndpoint: (a, b) => a === b,
      endpointBytes: ({ local, from }) => Buffer.from(`${local} ${from.host} ${from.port}`),
      outlet: {
        toEndpoint: (handle, origin, buffer, offset, length) => {
          const peer = handle && this.#peers.get(handle.name)?.peer
          if (peer !== undefined && peer.isPlain !== true) options.toPeer(peer.peer, buffer, offset, length)
          else if (origin !== PATH) options.toOrigin(origin, buffer, offset, length)
        },
        toTunnel: (handle, buffer, offset, length) => this.#toTunnel(handle.name, buffer, offset, length),
      },
    })
  }

  /** Takes new keys of our own; every session ends. */
  setPrivateKey(privateKey: Uint8Array): void {
    const before = this.#device.publicKey
    this.#device.setPrivateKey(privateKey)
    if (isSame(before, this.#device.publicKey)) return
    for (const name of [...this.#renewals.keys()]) {
      const known = this.#peers.get(name)
      this.#endRenewal(name)
      if (known !== undefined) this.#beginRenewal(name, known.peer, this.#now)
    }
  }

  /** These are the peers from now on; who is not among them is out at once. */
  setPeers(peers: readonly MeshPeer[], now: number): void {
    const wanted = new Map(peers.slice(0, MAX_PEERS).map(peer => [nameOf(peer.publicKey), peer]))
    for (const [name, { peer }] of this.#peers) {
      if (wanted.has(name)) continue
      this.#peers.delete(name)
      this.#endRenewal(name)
      this.#device.removePeer(peer.publicKey)
    }
    for (const [name, peer] of wanted) {
      const own = peer.addresses.map(wholeAddress)
      const refusal = this.#device.setPeer(
        {
          publicKey: peer.publicKey,
          ...(peer.isPlain === true && { presharedKey: peer.presharedKey }),
          ...(peer.isPlain === true ? { roaming: 'free' } : { endpoint: PATH, roaming: 'fixed' }),
          allowedIps: [...own, ...(peer.networks ?? [])].flatMap(bytesOf),
          replaceAllowedIps: true,
        },
        now,
      )
      if (refusal !== undefined) continue
      const before = this.#peers.get(name)?.peer
      if (before !== undefined && !isSame(before.presharedKey, peer.presharedKey)) this.#endRenewal(name)
      this.#peers.set(name, { peer, sources: rangesOf(own), reaches: rangesOf(peer.reaches ?? []) })
      if (peer.isPlain !== true && !this.#renewals.has(name)) this.#beginRenewal(name, peer, now)
    }
  }

  /** A path to the peer was found, or another one: its session begins, or is felt for. */
  handlePath(peer: number, now: number): void {
    const found = this.#find(peer)
    if (found === undefined) return
    const { hasKeys } = this.#device.peers(now).find(({ publicKey }) => isSame(publicKey, found.publicKey)) ?? {}
    const name = nameOf(found.publicKey)
    // What was said of a secret before there was a path is lost: it is said anew. The session begins when there is one.
    if (this.#unagreed.has(name)) return this.#renewAtOnce(name, found, now)
    if (hasKeys === true) this.#device.keepalive(found.publicKey, now)
    else this.#device.initiate(found.publicKey, now)
  }

  /** The peer has forgotten everything: the secret and the session begin anew, with the path if there is none now. */
  restart(peer: number, now: number): void {
    const found = this.#find(peer)
    if (found !== undefined && found.isPlain !== true) this.#renewAtOnce(nameOf(found.publicKey), found, now)
  }

  /** A datagram from the network, opened in place. */
  receive(buffer: Uint8Array, offset: number, length: number, origin: Origin, now: number): void {
    this.#now = now
    if (isRenewal(buffer, offset, length)) this.#receiveRenewal(buffer.subarray(offset, offset + length), now)
    else this.#device.receive(buffer, offset, length, origin, now)
  }

  /** An IP packet from the TUN, sealed in place: 16 bytes before it and 32 behind are overwritten. */
  send(buffer: Uint8Array, offset: number, length: number, now: number): void {
    this.firewall.outward(buffer, offset, length, now)
    this.#device.send(buffer, offset, length, now)
  }

  /** Asks a peer for an echo through the tunnel; `done` gets the round trip, or nothing after five seconds. */
  ping(peer: number, now: number, done: (rttMs: number | undefined) => void): void {
    const from = parseIp(this.#options.addresses[0] ?? '')
    const to = parseIp(this.#find(peer)?.addresses[0] ?? '')
    if (from === undefined || to === undefined || this.#echoes.size >= MAX_ECHOES) return done(undefined)
    const sequence = this.#nextEcho++ & 0xffff
    this.#echoes.set(sequence, { peer, sentMs: now, done })
    this.#sendOwn(echoRequest(from, to, sequence, ECHO_BYTES), now)
  }

  /** The peers, and what went to and fro. */
  status(now: number): MeshStatus[] {
    return this.#device.peers(now).flatMap(({ publicKey, hasKeys, rxBytes, txBytes }) => {
      const known = this.#peers.get(nameOf(publicKey))
      return known === undefined ? [] : [{ peer: known.peer.peer, isUp: hasKeys, rxBytes, txBytes }]
    })
  }

  deadline(): number {
    const [echo] = this.#echoes.values()
    let due = Number.POSITIVE_INFINITY
    for (const renewal of this.#renewals.values()) due = Math.min(due, renewal.deadline())
    return Math.min(due, this.#device.deadline(), echo === undefined ? Number.POSITIVE_INFINITY : echo.sentMs + ECHO_MS)
  }

  handleDeadline(now: number): void {
    this.#now = now
    this.#device.handleDeadline(now)
    for (const renewal of this.#renewals.values()) renewal.handleDeadline(now)
    for (const [sequence, { sentMs, done }] of this.#echoes) {
      if (now < sentMs + ECHO_MS) break
      this.#echoes.delete(sequence)
      done(undefined)
    }
  }

  close(): void {
    for (const name of [...this.#renewals.keys()]) this.#endRenewal(name)
    this.#device.close()
    for (const { done } of this.#echoes.values()) done(undefined)
    this.#echoes.clear()
  }

  #renewAtOnce(name: string, peer: MeshPeer, now: number): void {
    this.#endRenewal(name)
    this.#beginRenewal(name, peer, now)
  }

  #beginRenewal(name: string, { peer, publicKey, presharedKey }: MeshPeer, now: number): void {
    this.#now = now
    this.#unagreed.add(name)
    this.#hold(publicKey, true)
    const renewal = new SecretRenewal(
      {
        ownPublicKey: this.#device.publicKey,
        peerPublicKey: publicKey,
        secret: presharedKey,
        random: this.#options.random,
        send: bytes => this.#options.toPeer(peer, bytes, 0, bytes.length),
        use: (presharedKey, begins) => {
          this.#device.setPeer({ publicKey, presharedKey }, this.#now)
          if (!begins) return
          this.#hold(publicKey, false)
          this.#device.initiate(publicKey, this.#now)
        },
        told: isAgreed => {
          if (isAgreed) this.#unagreed.delete(name)
          else this.#unagreed.add(name)
          this.#hold(publicKey, !isAgreed)
          this.#options.onSecret?.(peer, isAgreed)
        },
      },
      now,
    )
    this.#renewals.set(name, renewal)
  }

  /**
   * Without a secret no handshake is begun. It would fail, and cost the one that does not: two within 20 ms are a flood, and the next
   * is five seconds away.
   */
  #hold(publicKey: Uint8Array, isHeld: boolean): void {
    this.#device.setPeer({ publicKey, isHeld }, this.#now)
  }

  #endRenewal(name: string): void {
    this.#renewals.get(name)?.close()
    this.#renewals.delete(name)
    this.#unagreed.delete(name)
  }

  #receiveRenewal(bytes: Uint8Array, now: number): void {
    if (now - this.#trials.sinceMs >= 1_000) this.#trials = { sinceMs: now, count: 0 }
    for (const renewal of this.#renewals.values()) {
      if (++this.#trials.count > MAX_TRIALS_PER_SECOND || renewal.receive(bytes, now)) return
    }
  }

  #toTunnel(name: string, buffer: Uint8Array, offset: number, length: number): void {
    const known = this.#peers.get(name)
    if (known === undefined) return
    const { peer } = known
    if (length === ECHO_BYTES && this.#takeEcho(peer.peer, buffer.subarray(offset, offset + length))) return
    if (!this.#isAdmitted(known, buffer, offset, length)) {
      this.refused++
      return
    }
    if (this.#options.toTunnel !== undefined) return this.#options.toTunnel(buffer, offset, length)
    const reply = echoReply(buffer.subarray(offset, offset + length))
    if (reply !== undefined) this.#sendOwn(reply, this.#now)
  }

  /** What is for this device goes by the firewall; the rest must come from the peer itself, and go where it may. */
  #isAdmitted({ peer, sources, reaches }: Known, buffer: Uint8Array, offset: number, length: number): boolean {
    const family = ipFamily(buffer, offset, length)
    if (family === undefined) return false
    const isItself = sources.lookup(buffer, offset + ipSourceOffset(family), family) !== undefined
    const destination = offset + ipDestinationOffset(family)
    if (this.#own.lookup(buffer, destination, family) === undefined)
      return isItself && reaches.lookup(buffer, destination, family) !== undefined
    return this.firewall.admits(isItself ? peer.rules : NO_RULES, buffer, offset, length, this.#now)
  }

  #takeEcho(peer: number, packet: Uint8Array): boolean {
    const sequence = echoSequence(packet)
    const echo = sequence === undefined ? undefined : this.#echoes.get(sequence)
    if (sequence === undefined || echo?.peer !== peer) return false
    this.#echoes.delete(sequence)
    echo.done(this.#now - echo.sentMs)
    return true
  }

  #sendOwn(packet: Uint8Array, now: number): void {
    const buffer = new Uint8Array(HEADROOM + packet.length + TAILROOM)
    buffer.set(packet, HEADROOM)
    this.#device.send(buffer, HEADROOM, packet.length, now)
  }

  #find(peer: number): MeshPeer | undefined {
    for (const each of this.#peers.values()) if (each.peer.peer === peer) return each.peer
    return undefined
  }
}

function nameOf(publicKey: Uint8Array): string {
  return Buffer.from(publicKey).toString('base64')
}

function isSame(a: Uint8Array, b: Uint8Array): boolean {
  return Buffer.compare(a, b) === 0
}

function wholeAddress(address: string): IpPrefix {
  return { address, prefix: address.includes(':') ? 128 : 32 }
}

function rangesOf(prefixes: readonly IpPrefix[]): AllowedIps<object> {
  const ranges = new AllowedIps<object>()
  for (const prefix of prefixes.flatMap(bytesOf)) ranges.insert(prefix, ranges)
  return ranges
}

function bytesOf({ address, prefix }: IpPrefix): { readonly address: Uint8Array; readonly bits: number }[] {
  const ip = parseIp(address)
  return ip === undefined ? [] : [{ address: ip, bits: prefix }]
}
