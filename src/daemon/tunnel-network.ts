// The machine's network while a tunnel is up: a TUN, the routes, the firewall and the DNS that belong to it, and the list of
// relays that our own sockets may send to. It stands before the first packet is sent, and longer than the process if that dies.

import { lookup } from 'node:dns/promises'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { Changes } from '#platform/linux/changes.ts'
import {
  applyClientNetwork,
  cgroupMount,
  kernelHasIpv6,
  resetConnectionsFrom,
  updateControl,
  updateLinks,
  updateMtu,
  updateRelays,
} from '#platform/linux/client-network.ts'
import {
  CLIENT_MARK,
  CLIENT_PRIORITY,
  type ClientNetworkOptions,
  type LanRange,
  type Split,
} from '#platform/linux/client-options.ts'
import { isDeviceChange, undoDeviceChanges } from '#platform/linux/device-network.ts'
import { detectDnsWay } from '#platform/linux/dns.ts'
import type { Endpoint } from '#platform/linux/networks.ts'
import { assertProgram } from '#platform/linux/steps.ts'
import { openTun, type Tun } from '#platform/linux/tun.ts'
import { type Address, formatAddress, parseIp } from '#wire/address.ts'

export const TUNNEL_MARK = CLIENT_MARK
/** No link of IPv4 takes less. */
const MIN_LINK_MTU = 576
/** Below this the kernel has no IPv6 on an interface. */
const MIN_TUN_MTU = 1_280

export interface TunnelNetworkOptions {
  readonly stateDir: string
  readonly name: string
  readonly mtu: number
  /** Addresses with prefix lengths. */
  readonly addresses: readonly string[]
  readonly dnsServers: readonly string[]
  readonly dnsSearch: readonly string[]
  /** Networks that go through the tunnel. */
  readonly routes: readonly string[]
  readonly killSwitch: boolean
  /** Ranges of the LAN that stay within reach. */
  readonly lan?: readonly LanRange[]
  /** Who and what goes around the tunnel, or alone through it. */
  readonly split?: Split
  /** Where the directory is asked for. */
  readonly control: readonly Endpoint[]
  /** Of `routes`, what the tunnel does not carry. */
  readonly refused?: readonly string[]
  /** One's own devices: the interface that leads to them, by default this tunnel's, and their networks. */
  readonly devices?: { readonly interface?: string; readonly networks: readonly string[] }
  /** Whether packets are as the kernel likes them, long and joined. By default they are. */
  readonly offload?: boolean
}

export class TunnelNetwork {
  readonly name: string
  readonly fd: number
  readonly offload: TunOffload
  readonly killSwitch: boolean
  /** Whether it took the place of what an earlier run left. */
  readonly tookOver: boolean
  readonly #tun: Tun
  readonly #changes: Changes
  readonly #network: ClientNetworkOptions
  #relays = new Set<string>()
  #control: string
  #mtu: number
  #updating: Promise<void> = Promise.resolve()

  private constructor(tun: Tun, changes: Changes, network: ClientNetworkOptions, tookOver: boolean) {
    this.name = tun.name
    this.fd = tun.fds[0] ?? -1
    this.offload = tun.offload
    this.#tun = tun
    this.killSwitch = network.killSwitch
    this.tookOver = tookOver
    this.#changes = changes
    this.#network = network
    this.#control = keyOf(network.control)
    this.#mtu = network.mtu
  }

  /**
   * Makes the TUN and changes the network; each change is recorded with its undo before it is made. Throws FFI_MISSING,
   * TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING or CHANGE_FAILED.
   */
  static async open(options: TunnelNetworkOptions): Promise<TunnelNetwork> {
    const { stateDir, name, mtu, addresses, routes, killSwitch, control } = options
    const changes = Changes.open(stateDir)
    const tookOver = changes.pending().length > 0
    const tun = openTun({ name, offload: options.offload ?? true })
    const mount = cgroupMount()
    const network: ClientNetworkOptions = {
      tun: tun.name,
      addresses,
      mtu,
      ...(options.dnsServers.length > 0 && {
        dns: {
          servers: options.dnsServers,
          search: options.dnsSearch,
          way: detectDnsWay(),
          stateDirectory: stateDir,
        },
      }),
      mark: CLIENT_MARK,
      priority: CLIENT_PRIORITY,
      relays: [],
      control,
      uid: process.getuid?.() ?? 0,
      routes,
      lan: options.lan ?? [],
      split: options.split ?? {},
      refused: options.refused ?? [],
      ...(options.devices !== undefined && { devices: { interface: tun.name, ...options.devices } }),
      killSwitch,
      hasIpv6: kernelHasIpv6(),
      ...(mount !== undefined && { cgroupMount: mount }),
    }
    try {
      await applyClientNetwork(changes, network)
    } catch (error) {
      tun.close()
      throw error
    }
    return new TunnelNetwork(tun, changes, network, tookOver)
  }

  /** Lets our sockets send to these relays and no others. Throws CHANGE_FAILED. */
  async allow(relays: readonly Address[]): Promise<void> {
    await updateRelays(
      this.name,
      relays.map(({ host, port }) => ({ address: host, protocol: 'udp', port })),
    )
    this.#relays = new Set(relays.map(formatAddress))
  }

  /** The journal of what was changed. */
  get changes(): Changes {
    return this.#changes
  }

  /** Lets the links to one's devices speak to these hosts and no others. Throws CHANGE_FAILED. */
  allowLinks(hosts: readonly string[]): Promise<void> {
    this.#updating = this.#updating.catch(() => undefined).then(() => updateLinks(this.name, hosts))
    return this.#updating
  }

  /** Whether our sockets may send to all of these. */
  reaches(relays: readonly Address[]): boolean {
    return relays.every(relay => this.#relays.has(formatAddress(relay)))
  }

  /** Lets the directory be asked for at these endpoints and no others, around the tunnel. Throws CHANGE_FAILED. */
  allowControl(control: readonly Endpoint[]): Promise<void> {
    const key = keyOf(control)
    if (key === this.#control) return this.#updating
    this.#control = key
    // One after the other: each is a change in the journal.
    this.#updating = this.#updating
      .catch(() => undefined)
      .then(() => updateControl(this.#changes, this.#network, control))
    return this.#updating
  }

  /** Sets the TUN's MTU, but not below what IPv6 needs. Throws CHANGE_FAILED. */
  resize(mtu: number): Promise<void> {
    const wanted = Math.max(mtu, MIN_TUN_MTU)
    if (wanted === this.#mtu) return this.#updating
    this.#mtu = wanted
    this.#updating = this.#updating.catch(() => undefined).then(() => updateMtu(this.name, wanted))
    return this.#updating
  }

  /** Ends TCP connections through the tunnel: their exit is gone. Where the kernel cannot, they wait for an answer first. */
  async resetConnections(): Promise<void> {
    await resetConnectionsFrom(this.#network.addresses)
  }

  /** Closes the TUN, where the data plane that it belonged to is gone without having done so. */
  close(): void {
    // A number that was closed may be somebody else's by now.
    const isOurs = existsSync(`/proc/self/fd/${this.fd}`) && readlinkSync(`/proc/self/fd/${this.fd}`) === '/dev/net/tun'
    if (isOurs) this.#tun.close()
  }

  /** Puts the network back as it was. The TUN goes with its descriptor, which belongs to the data plane. */
  async restore(): Promise<void> {
    await this.#updating.catch(() => undefined)
    await this.#changes.undoAll()
  }
}

/** Throws CHANGES_PENDING when an earlier run that died has left changes of the network, which this one would not undo. */
export function assertNothingPending(stateDir: string): void {
  const advice = 'undo them: hoplite recover; or go on in their shelter: hoplite up --tun'
  const pending = Changes.peek(stateDir).filter(id => !isDeviceChange(id))
  assertNoChanges(pending.length, 'start: an earlier run left changes of the network', advice)
}

/** Throws CHANGES_PENDING when a run that has ended could not undo all of its changes. */
export function assertUndone(stateDir: string): void {
  assertNoChanges(
    Changes.peek(stateDir).length,
    'stop: changes of the network are left',
    'its log says why: hoplite logs; then: hoplite recover',
  )
}

/** Undoes what an earlier run left of its devices' networks, which keeps nothing in. Throws CHANGES_PENDING as above. */
export async function openMachine(stateDir: string): Promise<void> {
  if (Changes.peek(stateDir).some(isDeviceChange)) await undoDeviceChanges(Changes.open(stateDir))
  assertNothingPending(stateDir)
}

function assertNoChanges(pending: number, what: string, advice: string): void {
  if (pending > 0) throw new HopliteError('CHANGES_PENDING', `${what} (${pending})`, advice)
}

/** Bootstrap nodes with their names resolved, and where they are. */
export interface Bootstraps {
  readonly multiaddrs: string[]
  readonly endpoints: readonly Endpoint[]
}

/** Bytes of the longest packet on the links of the default routes but `except`; 1500 where there is none to be seen. */
export function linkMtu(except?: string): number {
  const devices = [
    ...rowsOf('/proc/net/route').flatMap(([device, destination, , , , , , mask]) =>
      destination === '00000000' && mask === '00000000' ? device : [],
    ),
    ...rowsOf('/proc/net/ipv6_route').flatMap(([destination, bits, , , , , , , , device]) =>
      destination === '0'.repeat(32) && bits === '00' && device !== 'lo' ? device : [],
    ),
  ]
  const mtus = devices
    .filter(device => device !== except)
    .map(device => Number(read(`/sys/class/net/${device}/mtu`)))
    .filter(mtu => mtu >= MIN_LINK_MTU)
  return mtus.length === 0 ? 1_500 : Math.min(...mtus)
}

/** Bootstrap multiaddrs with their names resolved, and where they are; one whose name is not found is left out. */
export async function resolveBootstraps(bootstraps: readonly string[]): Promise<Bootstraps> {
  const found = await Promise.all(
    bootstraps.map(async text => {
      const [, kind = '', host = '', , port = '', ...rest] = text.split('/')
      const isAddress = parseIp(host) !== undefined
      const family = kind === 'dns4' ? 4 : kind === 'dns6' ? 6 : 0
      const address = isAddress
        ? host
        : await lookup(host, { family }).then(
            ({ address }) => address,
            () => undefined,
          )
      if (address === undefined) return []
      const multiaddr = ['', address.includes(':') ? 'ip6' : 'ip4', address, 'tcp', port, ...rest].join('/')
      return [multiaddr]
    }),
  )
  const all = found.flat()
  return { multiaddrs: all, endpoints: all.flatMap(endpointOf) }
}

/** Where servers with URLs are, with the names in them; one whose name is not found is left out. */
export async function resolveServers(
  urls: readonly string[],
): Promise<{ readonly name: string; readonly endpoint: Endpoint }[]> {
  const found = await Promise.all(
    urls.map(async text => {
      const { hostname, port, protocol } = new URL(text)
      const name = hostname.replace(/^\[|\]$/g, '')
      const address =
        parseIp(name) === undefined
          ? await lookup(name).then(
              found => found.address,
              () => undefined,
            )
          : name
      const number = Number(port) || (protocol === 'wss:' ? 443 : 80)
      return address === undefined ? [] : [{ name, endpoint: { address, protocol: 'tcp' as const, port: number } }]
    }),
  )
  return found.flat()
}

/** Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED or PROGRAM_MISSING where no tunnel can be made. Changes nothing. */
export function assertTunnelPossible(): void {
  openTun({ offload: true }).close()
  for (const program of ['ip', 'nft']) assertProgram(program)
}

/** Where a multiaddr with an IP address leads; none for others. */
export function endpointOf(multiaddr: string): Endpoint[] {
  const [, , address = '', , port] = multiaddr.split('/')
  return parseIp(address) === undefined ? [] : [{ address, protocol: 'tcp', port: Number(port) }]
}

function keyOf(endpoints: readonly Endpoint[]): string {
  return endpoints
    .map(({ address, protocol, port }) => `${address} ${protocol} ${port}`)
    .sort()
    .join(',')
}

function rowsOf(file: string): (readonly (string | undefined)[])[] {
  return read(file)
    .split('\n')
    .map(row => row.trim().split(/\s+/))
}

function read(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}
