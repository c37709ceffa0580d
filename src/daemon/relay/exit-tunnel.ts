// An exit's tunnel: its TUN, the addresses that stand for its clients, and what it changes on its machine so that their packets
// get out and nowhere else.

import { existsSync, readFileSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import { systemRandom } from '#crypto/random.ts'
import type { TunOffload } from '#forward/commands.ts'
import { type HelperChannel, helperFor } from '#platform/linux/helper/helper-channel.ts'
import type { ExitOrder } from '#platform/linux/helper/helper-order.ts'
import { fileCalls } from '#platform/linux/libc.ts'
import { journalDirectory, prepareJournal } from '#platform/linux/network/changes.ts'
import { type Family, parseNetwork } from '#platform/linux/network/networks.ts'
import type { HopTunnel } from '#relay/hop-flows.ts'
import { type TunnelNetwork, TunnelPool } from '#relay/tunnel-pool.ts'
import { type ExitRule, NOT_PUBLIC_NETWORKS } from '#stream/exit-policy.ts'
import { type Address, parseAddress, parseIp } from '#wire/address.ts'
import { formatIp } from '#wire/ip-prefix.ts'
import { TUNNEL_RESOLVER } from '#wire/tunnel-addresses.ts'
import { TUNNEL_MTU } from '../client/tunnel-flow.ts'
import type { Config } from '../config.ts'
import { linkMtu, openThrough, socketThrough } from '../entry/tunnel-network.ts'

const NAME = 'hoplite-exit'
/** The second is systemd-resolved's, for when the first names only itself. */
const RESOLVERS = ['/etc/resolv.conf', '/run/systemd/resolve/resolv.conf'] as const
const MAX_RESOLVERS = 4
/** What clients' packets have around them on the exit's own link: IPv6, UDP, and their session's layer. */
const AROUND_BYTES = 48 + 36
/** Longer links are for neighbours. */
const MAX_LINK_MTU = 1_500

export class ExitTunnel {
  readonly name: string
  /** Of its queues. They belong to the data plane once it has been given them. */
  readonly fds: readonly number[]
  readonly offload: TunOffload
  /** Of the TUN, in bytes: what comes from the internet is answered, when it is too long for its client, and not lost. */
  readonly mtu: number
  /** For the hop, which admits clients. */
  readonly hop: HopTunnel
  readonly #helper: HelperChannel

  private constructor(helper: HelperChannel, { name, fds, offload }: Opened, mtu: number, hop: HopTunnel) {
    this.#helper = helper
    this.name = name
    this.fds = fds
    this.offload = offload
    this.mtu = mtu
    this.hop = hop
  }

  /**
   * Makes the TUN, with a queue for each worker of the data plane, and changes the network; each change is recorded with its undo before it is made, and those of an earlier
   * run are undone. Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING, CHANGE_FAILED, CONFIG_INVALID or
   * HELPER_LOST.
   */
  static async open(
    config: Config,
    stateDir: string,
    rules: readonly ExitRule[],
    workers: number,
  ): Promise<ExitTunnel> {
    const helper = helperFor(() => {
      const journal = journalDirectory(stateDir)
      prepareJournal(journal)
      return { tunnel: exitOrder(config, rules), journal, uid: process.getuid?.() ?? 0, hooks: [] }
    })
    const mtu = Math.max(Math.min(linkMtu(NAME), MAX_LINK_MTU), TUNNEL_MTU)
    const opened = await openThrough(helper, mtu, [], workers)
    try {
      const offered = Math.max(mtu - AROUND_BYTES, TUNNEL_MTU)
      const pool = poolOf(config.exit.tunnel_networks, opened.outward)
      return new ExitTunnel(helper, opened, mtu, { pool, mtu: offered, dns: [TUNNEL_RESOLVER] })
    } catch (error) {
      for (const fd of opened.fds) fileCalls().close(fd)
      await helper.ask({ verb: 'restore' }).catch(() => undefined)
      throw error
    }
  }

  /** Calls it when the network can be changed no more. */
  onLost(listener: (error: HopliteError) => void): void {
    this.#helper.onLost(listener)
  }

  /** Sockets with buffers as large as a relay's should be; whoever gets them closes them. */
  sockets(host: string, count: number): Promise<number[]> {
    return Promise.all(Array.from({ length: count }, () => socketThrough(this.#helper, host)))
  }

  /** Puts the network back as it was. The TUN goes with its descriptors. */
  async restore(): Promise<void> {
    await this.#helper.ask({ verb: 'restore' })
  }
}

type Opened = Awaited<ReturnType<typeof openThrough>>

/** What changes the machine is told of an exit. Throws CONFIG_INVALID. */
export function exitOrder(config: Config, rules: readonly ExitRule[]): ExitOrder {
  const { tunnel_networks: networks, dns, allow_private } = config.exit
  const servers = dns.length > 0 ? dns : machineResolvers()
  if (servers.length === 0)
    throw new HopliteError(
      'CONFIG_INVALID',
      'open the tunnel of the exit: this machine has no resolver of IPv4 but on itself',
      'name one that answers from here: dns = ["192.0.2.53"] in [exit]',
    )
  return {
    kind: 'exit',
    name: NAME,
    addresses: networks.map(ownAddress),
    denied: NOT_PUBLIC_NETWORKS,
    rules,
    allowed: allow_private.flatMap(text => toEndpoints(parseAddress(text))),
    resolver: { address: TUNNEL_RESOLVER, servers },
  }
}

/** The IPv4 resolvers of this machine that others reach too. */
function machineResolvers(): string[] {
  for (const file of RESOLVERS) {
    const text = existsSync(file) ? readFileSync(file, 'utf8') : ''
    const found = [...text.matchAll(/^nameserver\s+([0-9.]+)\s*$/gm)].flatMap(([, host = '']) => host)
    const usable = found.filter(host => parseIp(host)?.length === 4 && !host.startsWith('127.'))
    if (usable.length > 0) return usable.slice(0, MAX_RESOLVERS)
  }
  return []
}

/** The first address of a network, with its prefix: the TUN's own. */
function ownAddress(network: string): string {
  const { address, bits } = parseNetwork(network)
  const bytes = Uint8Array.from(parseIp(address) ?? [])
  bytes[bytes.length - 1] = (bytes.at(-1) ?? 0) | 1
  return `${formatIp(bytes)}/${bits}`
}

/** Clients get addresses of the families that lead somewhere. */
function poolOf(networks: readonly string[], outward: readonly Family[]): TunnelPool {
  if (!outward.includes(4))
    throw new HopliteError(
      'CHANGE_FAILED',
      'open the tunnel of the exit: this machine has no default route of IPv4',
      'connect it to the internet first: ip route show default',
    )
  const find = (family: 4 | 6): TunnelNetwork | undefined => {
    const found = networks.map(parseNetwork).find(network => network.family === family)
    return found && { address: parseIp(found.address) ?? new Uint8Array(0), bits: found.bits }
  }
  const [network4, network6] = [find(4), outward.includes(6) ? find(6) : undefined]
  return new TunnelPool({ ...(network4 && { network4 }), ...(network6 && { network6 }) }, systemRandom)
}

function toEndpoints(address: Address | undefined) {
  if (address === undefined) return []
  return (['tcp', 'udp'] as const).map(protocol => ({ address: address.host, protocol, port: address.port }))
}
