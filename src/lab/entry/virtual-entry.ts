// WireGuard on the virtual internet: a server, clients, and entries that lead to it over peers.

import { copyBytes } from '#bytes/copy.ts'
import { HEADROOM } from '#forward/slab.ts'
import { roundTripToken, writeRoundTrip } from '#packet/round-trip.ts'
import { calendarAt, WireGuardGate, type WireGuardLimits } from '#relay/wireguard-gate.ts'
import type { EntryEvent, PeerChoice } from '#route/entry-route.ts'
import { EntryRoutes } from '#route/entry-routes.ts'
import type { RouteHop } from '#route/way.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { addHop, type VirtualHop, type VirtualHost, type VirtualNet, VirtualNode } from '../virtual-net.ts'
import { inside4, ipPacket } from '../wireguard/wireguard-net.ts'

const UNIX_OFFSET_MS = 1_700_000_000_000
const LIMITS: WireGuardLimits = { maxClients: 8, maxFlowsPerClient: 8, bytesPerDay: Number.POSITIVE_INFINITY }

/** A peer for others' tunnels. */
export function addPeer(net: VirtualNet, host: string, limits: Partial<WireGuardLimits> = {}): VirtualHop {
  const gate = new WireGuardGate(
    { limits: { ...LIMITS, ...limits }, mayReach: () => true, calendar: calendarAt(UNIX_OFFSET_MS) },
    net.now,
  )
  return addHop(net, host, { wireGuard: gate })
}

/** A host with a WireGuard device on one UDP port. */
export class VirtualWireGuard implements VirtualHost {
  readonly address: Address
  readonly device: WireGuardDevice<Address>
  readonly inbox: { readonly atMs: number; readonly packet: Uint8Array }[] = []
  /** Whether it forwards between its clients, and so from one to itself. */
  sendsBack = true
  readonly #net: VirtualNet

  constructor(net: VirtualNet, address: Address) {
    this.#net = net
    this.address = address
    this.device = new WireGuardDevice<Address>({
      ...deviceOptions(net),
      outlet: {
        toEndpoint: (_peer, to, buffer, offset, length) =>
          net.send(this.address, to, copyBytes(buffer, offset, offset + length)),
        toTunnel: (_peer, buffer, offset, length) => {
          const packet = copyBytes(buffer, offset, offset + length)
          if (this.sendsBack && roundTripToken(inside4(1), packet, 0, length) !== undefined) return this.send(packet)
          this.inbox.push({ atMs: net.now, packet })
        },
      },
      sameEndpoint: (a, b) => formatAddress(a) === formatAddress(b),
      endpointBytes: address => Buffer.from(formatAddress(address)),
    })
    net.add(this)
  }

  send(packet: Uint8Array): void {
    const buffer = new Uint8Array(packet.length + 64)
    buffer.set(packet, 16)
    this.device.send(buffer, 16, packet.length, this.#net.now)
  }

  receive(from: Address, port: number, bytes: Uint8Array): void {
    if (port === this.address.port) this.device.receive(bytes, 0, bytes.length, from, this.#net.now)
  }

  deadline(): number {
    return this.device.deadline()
  }

  handleDeadline(): void {
    this.device.handleDeadline(this.#net.now)
  }
}

/** Peers of one way, without those to avoid and those that are known to have failed. */
export type PickPeers = (avoid: readonly RouteHop[], failed: ReadonlySet<string>) => PeerChoice

export interface VirtualEntryClient {
  readonly node: VirtualNode
  readonly routes: EntryRoutes
  readonly failed: Set<string>
  readonly events: (EntryEvent & { readonly atMs: number })[]
}

/** A client with one entry, number 1, to `server`; whatever WireGuard speaks to port 51820 of its address is carried. */
export function addEntryClient(
  net: VirtualNet,
  host: string,
  server: Address,
  pickPeers: PickPeers,
): VirtualEntryClient {
  return addEntry(net, host, server, pickPeers, 'socket').client
}

/** A client whose own device is a tunnel to `server` over peers. */
export class VirtualTunnel {
  readonly client: VirtualEntryClient
  readonly device: WireGuardDevice<number>
  readonly inbox: { readonly atMs: number; readonly packet: Uint8Array }[] = []
  readonly #net: VirtualNet

  constructor(net: VirtualNet, host: string, server: VirtualWireGuard, pickPeers: PickPeers) {
    this.#net = net
    const { client, open } = addEntry(net, host, server.address, pickPeers, 'tunnel')
    this.client = client
    const { entries } = client.node
    this.device = new WireGuardDevice<number>({
      ...deviceOptions(net),
      outlet: {
        toEndpoint: (_peer, entry, buffer, offset, length) => {
          entries.send(entry, buffer, offset, length, false)
        },
        toTunnel: (_peer, buffer, offset, length) => {
          const token = roundTripToken(inside4(1), buffer, offset, length)
          if (token !== undefined) return client.node.report({ kind: 'tunnelEcho', entry: 1, token })
          this.inbox.push({ atMs: net.now, packet: copyBytes(buffer, offset, offset + length) })
        },
      },
      sameEndpoint: (a, b) => a === b,
      endpointBytes: entry => Uint8Array.of(entry),
    })
    const key = server.device.publicKey
    this.device.setPeer(
      { publicKey: key, endpoint: 1, roaming: 'fixed', allowedIps: [{ address: inside4(0), bits: 0 }] },
      net.now,
    )
    server.device.setPeer(
      { publicKey: this.device.publicKey, allowedIps: [{ address: inside4(1), bits: 32 }] },
      net.now,
    )
    entries.tunnel = {
      receive: (entry, buffer, offset, length) =>
        this.device.receive(buffer, offset, length, entry, net.now) === undefined,
      initiate: () => this.device.initiate(key, net.now),
      keepalive: () => this.device.keepalive(key, net.now),
    }
    client.node.probeTunnel = (token, bytes) => {
      const buffer = new Uint8Array(bytes + 2 * HEADROOM)
      writeRoundTrip(inside4(1), token, bytes, buffer, HEADROOM)
      this.device.send(buffer, HEADROOM, bytes, net.now)
    }
    net.add({
      address: { host: `${host} (device)`, port: 0 },
      receive: () => {},
      deadline: () => this.device.deadline(),
      handleDeadline: () => this.device.handleDeadline(net.now),
    })
    open()
  }

  send(bytes = 100): void {
    const packet = ipPacket(inside4(1), inside4(2), bytes)
    const buffer = new Uint8Array(packet.length + 2 * HEADROOM)
    buffer.set(packet, HEADROOM)
    this.device.send(buffer, HEADROOM, packet.length, this.#net.now)
  }
}

function addEntry(net: VirtualNet, host: string, server: Address, pickPeers: PickPeers, kind: 'socket' | 'tunnel') {
  const failed = new Set<string>()
  const routes = new EntryRoutes({
    random: net.random,
    pickPeers: (_server, avoid) => pickPeers(avoid, failed),
    isBusy: () => true,
  })
  const events: (EntryEvent & { readonly atMs: number })[] = []
  const node = new VirtualNode(net, host, routes, () => {
    const commands = routes.take()
    for (const { event } of routes.takeEvents()) {
      events.push({ ...event, atMs: net.now })
      if (event.kind === 'hopFailed') failed.add(event.hop.id)
    }
    return commands
  })
  const open = () => {
    const client = kind === 'socket' ? { kind, listen: { host, port: 51_820 } } : { kind }
    routes.open(1, server, client, net.now)
    routes.handleDeadline(net.now)
    node.settle()
  }
  if (kind === 'socket') open()
  return { client: { node, routes, failed, events }, open }
}

function deviceOptions(net: VirtualNet) {
  return { privateKey: net.random(32), random: net.random, unixOffsetMs: UNIX_OFFSET_MS }
}
