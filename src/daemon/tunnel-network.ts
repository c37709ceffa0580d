// The machine's network while a tunnel is up: a TUN, the routes, the firewall and the DNS that belong to it, and the list of
// relays that our own sockets may send to. It stands before the first packet is sent, and longer than the process if that dies.

import { lookup } from 'node:dns/promises'
import { existsSync, readFileSync } from 'node:fs'
import type { TunOffload } from '#forward/commands.ts'
import { Changes } from '#platform/linux/changes.ts'
import { applyClientNetwork, cgroupMount, kernelHasIpv6, updateRelays } from '#platform/linux/client-network.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions } from '#platform/linux/client-options.ts'
import { detectDnsWay } from '#platform/linux/dns.ts'
import type { Endpoint } from '#platform/linux/networks.ts'
import { openTun, type Tun } from '#platform/linux/tun.ts'
import { type Address, formatAddress, parseIp } from '#wire/address.ts'

export const TUNNEL_MARK = CLIENT_MARK
/** No link of IPv4 takes less. */
const MIN_LINK_MTU = 576

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
  /** Where the directory is asked for. */
  readonly control: readonly Endpoint[]
}

export class TunnelNetwork {
  readonly name: string
  readonly fd: number
  readonly offload: TunOffload
  readonly #changes: Changes
  #relays = ''

  private constructor({ name, fds: [fd = -1], offload }: Tun, changes: Changes) {
    this.name = name
    this.fd = fd
    this.offload = offload
    this.#changes = changes
  }

  /**
   * Makes the TUN and changes the network; each change is recorded with its undo before it is made. Throws FFI_MISSING,
   * TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING or CHANGE_FAILED.
   */
  static async open(options: TunnelNetworkOptions): Promise<TunnelNetwork> {
    const { stateDir, name, mtu, addresses, routes, killSwitch, control } = options
    const changes = Changes.open(stateDir)
    const tun = openTun({ name, offload: true })
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
      lan: [],
      split: {},
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
    return new TunnelNetwork(tun, changes)
  }

  /** Lets our sockets send to these relays and no others; whether that was a change. */
  async allow(relays: readonly Address[]): Promise<boolean> {
    const key = relays.map(formatAddress).sort().join(' ')
    if (key === this.#relays) return false
    this.#relays = key
    await updateRelays(
      this.name,
      relays.map(({ host, port }) => ({ address: host, protocol: 'udp', port })),
    )
    return true
  }

  /** Whether `relays` are those that are allowed already. */
  allows(relays: readonly Address[]): boolean {
    return relays.map(formatAddress).sort().join(' ') === this.#relays
  }

  /** Puts the network back as it was. The TUN goes with its descriptor, which belongs to the data plane. */
  async restore(): Promise<void> {
    await this.#changes.undoAll()
  }
}

/** Bytes of the longest packet on the links of the default routes; 1500 where there is none to be seen. */
export function linkMtu(): number {
  const devices = [
    ...rowsOf('/proc/net/route').flatMap(([device, destination, , , , , , mask]) =>
      destination === '00000000' && mask === '00000000' ? device : [],
    ),
    ...rowsOf('/proc/net/ipv6_route').flatMap(([destination, bits, , , , , , , , device]) =>
      destination === '0'.repeat(32) && bits === '00' && device !== 'lo' ? device : [],
    ),
  ]
  const mtus = devices.map(device => Number(read(`/sys/class/net/${device}/mtu`))).filter(mtu => mtu >= MIN_LINK_MTU)
  return mtus.length === 0 ? 1_500 : Math.min(...mtus)
}

/** Bootstrap multiaddrs with their names resolved, and where they are; one whose name is not found is left out. */
export async function resolveBootstraps(
  bootstraps: readonly string[],
): Promise<{ readonly multiaddrs: string[]; readonly endpoints: Endpoint[] }> {
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
      return [{ multiaddr, endpoint: { address, protocol: 'tcp', port: Number(port) } as const }]
    }),
  )
  const all = found.flat()
  return { multiaddrs: all.map(({ multiaddr }) => multiaddr), endpoints: all.map(({ endpoint }) => endpoint) }
}

function rowsOf(file: string): (readonly (string | undefined)[])[] {
  return read(file)
    .split('\n')
    .map(row => row.trim().split(/\s+/))
}

function read(file: string): string {
  return existsSync(file) ? readFileSync(file, 'utf8') : ''
}
