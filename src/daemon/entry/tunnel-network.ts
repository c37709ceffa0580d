// The machine's network while a tunnel is up: a TUN, the routes, the firewall and the DNS that belong to it, and the list of
// relays that our own sockets may send to. It stands before the first packet is sent, and longer than the process if that dies.

import { lookup } from 'node:dns/promises'
import { existsSync, readFileSync, readlinkSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { type HelperChannel, helperFor } from '#platform/linux/helper/helper-channel.ts'
import type { ClientOrder, HelperOrder } from '#platform/linux/helper/helper-order.ts'
import { fileCalls } from '#platform/linux/libc.ts'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/network/changes.ts'
import { isDeviceChange, undoDeviceChanges } from '#platform/linux/network/device-network.ts'
import type { Endpoint } from '#platform/linux/network/networks.ts'
import { assertProgram } from '#platform/linux/network/steps.ts'
import { openTun } from '#platform/linux/tun.ts'
import { type Address, formatAddress, parseIp } from '#wire/address.ts'
import type { WgQuickHook } from '#wire/wg-quick.ts'

/** No link of IPv4 takes less. */
const MIN_LINK_MTU = 576
/** Below this the kernel has no IPv6 on an interface. */
export const MIN_TUN_MTU = 1_280

export interface TunnelNetworkOptions {
  readonly stateDir: string
  /** What is known beforehand; a helper process has been told it by root, and listens to nobody else. */
  readonly order: ClientOrder
  readonly hooks?: readonly WgQuickHook[]
  readonly mtu: number
  /** Where the directory is asked for. */
  readonly control: readonly Endpoint[]
}

export class TunnelNetwork {
  readonly name: string
  readonly fd: number
  readonly offload: TunOffload
  readonly killSwitch: boolean
  /** Whether it took the place of what an earlier run left. */
  readonly tookOver: boolean
  readonly #helper: HelperChannel
  #relays = new Set<string>()
  #control: string
  #mtu: number
  #updating: Promise<void> = Promise.resolve()

  private constructor(helper: HelperChannel, opened: Opened, { mtu, control }: TunnelNetworkOptions) {
    this.#helper = helper
    this.name = opened.name
    this.fd = opened.fd
    this.offload = opened.offload
    this.killSwitch = opened.killSwitch
    this.tookOver = opened.tookOver
    this.#control = keyOf(control)
    this.#mtu = mtu
  }

  /**
   * Makes the TUN and changes the network; each change is recorded with its undo before it is made. Throws FFI_MISSING,
   * TUN_UNAVAILABLE, NOT_PERMITTED, PROGRAM_MISSING, CHANGE_FAILED or HELPER_LOST.
   */
  static async open(options: TunnelNetworkOptions): Promise<TunnelNetwork> {
    const helper = tunnelHelper(options)
    return new TunnelNetwork(helper, await openThrough(helper, options.mtu, options.control), options)
  }

  /** Calls it when the network can be changed no more. */
  onLost(listener: (error: HopliteError) => void): void {
    this.#helper.onLost(listener)
  }

  /** A socket for the tunnel itself, with the mark; whoever gets it closes it. */
  async socket(host: string): Promise<number> {
    return socketThrough(this.#helper, host)
  }

  /** A socket that listens where wg(8) looks for the tunnel. */
  async listenForWg(): Promise<number> {
    const { fds } = await this.#helper.ask({ verb: 'wg' })
    return fds[0] ?? -1
  }

  /** Lets our sockets send to these relays and no others. Throws CHANGE_FAILED. */
  async allow(relays: readonly Address[]): Promise<void> {
    const wanted = relays.map(({ host, port }) => ({ address: host, protocol: 'udp', port }) as const)
    await this.#helper.ask({ verb: 'relays', relays: wanted })
    this.#relays = new Set(relays.map(formatAddress))
  }

  /** Lets the links to one's devices speak to these hosts and no others. Throws CHANGE_FAILED. */
  async allowLinks(hosts: readonly string[]): Promise<void> {
    await this.#helper.ask({ verb: 'links', hosts })
  }

  /** Whether our sockets may send to all of these. */
  reaches(relays: readonly Address[]): boolean {
    return relays.every(relay => this.#relays.has(formatAddress(relay)))
  }

  /** Lets the directory be asked for at these endpoints and no others, around the tunnel. Throws CHANGE_FAILED. */
  async allowControl(control: readonly Endpoint[]): Promise<void> {
    const key = keyOf(control)
    if (key === this.#control) return this.#updating
    this.#control = key
    this.#updating = this.#do({ verb: 'control', control })
    return this.#updating
  }

  /** Sets the TUN's MTU, but not below what IPv6 needs. Throws CHANGE_FAILED. */
  async resize(mtu: number): Promise<void> {
    const wanted = Math.max(mtu, MIN_TUN_MTU)
    if (wanted === this.#mtu) return this.#updating
    this.#mtu = wanted
    this.#updating = this.#do({ verb: 'mtu', mtu: wanted })
    return this.#updating
  }

  /** Ends TCP connections through the tunnel: their exit is gone. Where the kernel cannot, they wait for an answer first. */
  async resetConnections(): Promise<void> {
    await this.#helper.ask({ verb: 'reset' })
  }

  /** Closes the TUN, where the data plane that it belonged to is gone without having done so. */
  close(): void {
    // A number that was closed may be somebody else's by now.
    const isOurs = existsSync(`/proc/self/fd/${this.fd}`) && readlinkSync(`/proc/self/fd/${this.fd}`) === '/dev/net/tun'
    if (isOurs) fileCalls().close(this.fd)
  }

  /** Puts the network back as it was. The TUN goes with its descriptor, which belongs to the data plane. */
  async restore(): Promise<void> {
    await this.#helper.ask({ verb: 'restore' })
  }

  async #do(request: Parameters<HelperChannel['ask']>[0]): Promise<void> {
    await this.#helper.ask(request)
  }
}

interface Opened {
  readonly name: string
  readonly fd: number
  readonly offload: TunOffload
  readonly killSwitch: boolean
  readonly tookOver: boolean
}

/** Runs the commands of a WireGuard file for one moment; gives what became of those that failed. */
export async function runTunnelHooks(
  options: Pick<TunnelNetworkOptions, 'stateDir' | 'order' | 'hooks'>,
  when: WgQuickHook['when'],
): Promise<readonly string[]> {
  const { answer } = await tunnelHelper(options).ask({ verb: 'hooks', when })
  return answer.failures ?? []
}

/** What a helper for this tunnel must be told. */
export function helperOrder(
  { stateDir, order, hooks = [] }: Pick<TunnelNetworkOptions, 'stateDir' | 'order' | 'hooks'>,
  uid: number,
): HelperOrder {
  return { tunnel: order, journal: journalDirectory(stateDir), uid, hooks }
}

function tunnelHelper(options: Pick<TunnelNetworkOptions, 'stateDir' | 'order' | 'hooks'>): HelperChannel {
  return helperFor(() => {
    const order = helperOrder(options, process.getuid?.() ?? 0)
    prepareJournal(order.journal)
    return order
  })
}

/** Opens the tunnel that a helper's order speaks of, with a descriptor for each queue. */
export async function openThrough(helper: HelperChannel, mtu: number, control: readonly Endpoint[], queues = 1) {
  const { answer, fds } = await helper.ask({ verb: 'open', mtu, queues, control })
  const [fd] = fds
  if (answer.opened === undefined || fd === undefined) throw new Error('open a tunnel: the helper gave none')
  return { ...answer.opened, fd, fds }
}

/** A UDP socket for an address of that family, made by a helper; whoever gets it closes it. */
export async function socketThrough(helper: HelperChannel, host: string): Promise<number> {
  const { fds } = await helper.ask({ verb: 'socket', family: host.includes(':') ? 6 : 4 })
  return fds[0] ?? -1
}

/** Throws CHANGES_PENDING when an earlier run that died has left changes of the network, which this one would not undo. */
export function assertNothingPending(stateDir: string): void {
  const advice = 'undo them: hoplite recover; or go on in their shelter: hoplite up --tun'
  const pending = Changes.peek(journalDirectory(stateDir)).filter(id => !isDeviceChange(id))
  assertNoChanges(pending.length, 'start: an earlier run left changes of the network', advice)
}

/** Throws CHANGES_PENDING when a run that has ended could not undo all of its changes. */
export function assertUndone(stateDir: string): void {
  assertNoChanges(
    Changes.peek(journalDirectory(stateDir)).length,
    'stop: changes of the network are left',
    'its log says why: hoplite logs; then: hoplite recover',
  )
}

/** Undoes what an earlier run left of its devices' networks, which keeps nothing in. Throws CHANGES_PENDING as above. */
export async function openMachine(stateDir: string): Promise<void> {
  const journal = journalDirectory(stateDir)
  if (Changes.peek(journal).some(isDeviceChange)) await undoDeviceChanges(Changes.open(journal))
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
