// What one's devices change on a machine: on the one that offers networks or the internet, forwarding and translation for them and
// a filter that lets nothing else through; on the one that accepts them, routes.
//
// The offering side. A device is known by its source address, which its tunnel has authenticated. It reaches the networks that are
// offered to it, the public internet if that is offered, and nothing else: no address of this machine but that of the devices'
// network, and other devices or what lies behind them only for a phone to which that is offered, in this machine's name, since they
// do not know it. Forwarding is switched on for the interfaces in question alone (IPv6 knows one switch for all); on a machine
// that was no router before, everything else that could be forwarded then is dropped.
//
// The accepting side. Routes stand in a table of their own, asked before all others, and behind each an unreachable one: what is
// for a network at home does not go to a stranger's network of the same addresses when the way home is gone. The links' own
// sockets carry a mark that leads past the table.

import { readFileSync } from 'node:fs'
import { readShareable } from '#mesh/shared-networks.ts'
import { type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import type { Change, Changes } from './changes.ts'
import { CLIENT_PRIORITY, LINK_MARK } from './client-options.ts'
import { detectExitMachine, type ExitMachine } from './exit-network.ts'
import { checkInteger, checkInterfaceName, type Family, formatNetwork, ofFamily, parseNetwork } from './networks.ts'
import { chain, clampRules, FAMILIES, innerChain, networkSet, tableChange } from './nft.ts'
import { type Command, capture } from './steps.ts'

/** What one device may reach behind this one. */
export interface DeviceGrant {
  /** Its addresses in the devices' network. */
  readonly addresses: readonly string[]
  readonly networks: readonly string[]
  /** What it reaches through the devices' own network: other devices, or networks behind them. */
  readonly onward: readonly string[]
  readonly internet: boolean
}

export interface DeviceSharing {
  readonly tun: string
  readonly mtu: number
  /** Our own addresses in the devices' network. */
  readonly own: readonly string[]
  /** Networks that are not the internet. */
  readonly denied: readonly string[]
  readonly grants: readonly DeviceGrant[]
}

/** A network that is reached through a device. */
export interface DeviceRoute {
  readonly network: string
  /** Whether its device is within reach. */
  readonly isUp: boolean
}

const REFUSE = 'reject with icmpx type admin-prohibited'
const REPLIES = 'ct state established,related accept'
const MAX_ENTRIES = 1024
const MTU_LEAST = 1280
/** Every change of ours begins with this word, but the firewall, which is known by its table. */
const PREFIX = 'devices'
const LAST_METRIC = '4278198272'
const TABLE = String(LINK_MARK)
/** Before the rules of a client's tunnel, and behind all others of this program. */
const RULE = { mark: CLIENT_PRIORITY - 3, markNowhere: CLIENT_PRIORITY - 2, table: CLIENT_PRIORITY - 1 } as const

/** Where networks are found on this machine. */
export interface SharingMachine extends ExitMachine {
  /** The interfaces that lead to the offered networks. */
  readonly interfaces4: readonly string[]
}

/** Whether a device may be the way to it: private networks alone, and no part of that of the devices. */
export function isShareableNetwork(network: string, devices: string): boolean {
  return readShareable(network, parsePrefix(devices) as IpPrefix) !== undefined
}

/** The changes of the offering side, first to last; pure. Throws RangeError for options that make no sense. */
export function planDeviceSharing(options: DeviceSharing, machine: SharingMachine): Change[] {
  check(options)
  const hasIpv6 = machine.hasIpv6 && options.grants.some(grant => grant.internet || hasNetworks(grant, 6))
  const interfaces = new Set([
    ...machine.interfaces4,
    ...(options.grants.some(({ internet }) => internet) && machine.outward4 !== undefined ? [machine.outward4] : []),
  ])
  const forward4 = [...interfaces].filter(name => /^[A-Za-z0-9_.@-]{1,15}$/.test(name) && name !== options.tun)
  return [
    planFirewall(options, machine),
    ...[options.tun, ...forward4].map(name => forwarding(`net/ipv4/conf/${name}/forwarding`, '1')),
    ...(hasIpv6
      ? [
          // First, or the default route of the machine itself would run out.
          ...(machine.listensToRouters ? [forwarding(`net/ipv6/conf/${machine.outward6}/accept_ra`, '2')] : []),
          forwarding('net/ipv6/conf/all/forwarding', '1'),
        ]
      : []),
  ]
}

/**
 * Makes these the offers that the machine serves, in the place of those before; without any, everything is put back. Throws
 * PROGRAM_MISSING, NOT_PERMITTED or CHANGE_FAILED.
 */
export async function applyDeviceSharing(
  changes: Changes,
  options: DeviceSharing,
  before?: DeviceSharing,
): Promise<void> {
  if (options.grants.length === 0) return endDeviceSharing(changes, options.tun)
  if (before !== undefined && before.tun !== options.tun) await endDeviceSharing(changes, before.tun)
  const pending = new Set(changes.pending())
  const machine = await detectMachine(options, pending)
  const plan = planDeviceSharing(options, machine)
  const wanted = new Set(plan.map(({ id }) => id))
  for (const id of pending) if (id.startsWith(`${PREFIX} net/`) && !wanted.has(id)) await changes.undo(id)
  for (const change of plan) if (change.replaces === true || !pending.has(change.id)) await changes.make(change)
}

async function endDeviceSharing(changes: Changes, tun: string): Promise<void> {
  for (const id of changes.pending().toReversed()) {
    if (id.startsWith(`${PREFIX} net/`) || id === `firewall ${tableOf(tun)}`) await changes.undo(id)
  }
}

/**
 * Undoes what this machine offers: whoever served it is gone. What was accepted stays unreachable, until the next start or until
 * somebody opens it.
 */
export async function undoDeviceOffers(changes: Changes): Promise<void> {
  const isRoute = (id: string) => id.startsWith(`${PREFIX} rules `)
  for (const id of changes.pending().toReversed()) if (isDeviceChange(id) && !isRoute(id)) await changes.undo(id)
}

/** Undoes what an earlier run has left of either side: with it its tunnels are gone. */
export async function undoDeviceChanges(changes: Changes): Promise<void> {
  for (const id of changes.pending().toReversed()) if (isDeviceChange(id)) await changes.undo(id)
}

/** Whether a change of the journal is one of ours. */
export function isDeviceChange(id: string): boolean {
  return id.startsWith(`${PREFIX} `) || /^firewall hoplite-.*-offers$/.test(id)
}

/** The changes of the accepting side, which lead past every other table; pure. */
export function planDeviceRules(family: Family): Change {
  const rules = [
    [String(RULE.mark), 'fwmark', TABLE, 'lookup', 'main'],
    // No network: a packet of a link must not find its way into the tunnel.
    [String(RULE.markNowhere), 'fwmark', TABLE, 'unreachable'],
    [String(RULE.table), 'lookup', TABLE],
  ]
  const commands = (verb: 'add' | 'del') => rules.map(words => ip(family, 'rule', verb, 'priority', ...words))
  const flush = ip(family, 'route', 'flush', 'table', TABLE)
  return {
    id: `${PREFIX} rules ipv${family}`,
    step: { kind: 'commands', do: commands('add'), undo: [...commands('del').toReversed(), flush] },
  }
}

/** The commands that lead from the routes before to those after. What goes down falls onto its unreachable route; pure. */
export function planDeviceRoutes(
  tun: string,
  before: readonly DeviceRoute[],
  after: readonly DeviceRoute[],
): Command[] {
  checkInterfaceName(tun)
  const was = new Map(before.map(route => [route.network, route]))
  const is = new Map(after.map(route => [route.network, route]))
  const last = (verb: string, network: string) => route(network, verb, 'unreachable', network, 'metric', LAST_METRIC)
  const through = (verb: string, network: string) => route(network, verb, network, 'dev', tun, 'metric', '1')
  return [
    ...after.flatMap(({ network, isUp }) => [
      ...(was.has(network) ? [] : [last('replace', network)]),
      ...(isUp && was.get(network)?.isUp !== true ? [through('replace', network)] : []),
      ...(!isUp && was.get(network)?.isUp === true ? [through('del', network)] : []),
    ]),
    ...before.flatMap(({ network, isUp }) => {
      if (is.has(network)) return []
      return [...(isUp ? [through('del', network)] : []), last('del', network)]
    }),
  ]
}

/** Makes these the routes, in the place of those before. Throws as `applyDeviceSharing` does. */
export async function applyDeviceRoutes(
  changes: Changes,
  tun: string,
  before: readonly DeviceRoute[],
  after: readonly DeviceRoute[],
  hasIpv6: boolean,
): Promise<void> {
  const families = hasIpv6 ? FAMILIES : ([4] as const)
  const rules = families.map(planDeviceRules)
  const pending = new Set(changes.pending())
  if (after.length > 0) for (const change of rules) if (!pending.has(change.id)) await changes.make(change)
  const usable = (routes: readonly DeviceRoute[]) =>
    routes.filter(({ network }) => hasIpv6 || parseNetwork(network).family === 4)
  // What went with its interface is gone already.
  for (const command of planDeviceRoutes(tun, usable(before), usable(after))) await capture(command, GONE)
  if (after.length === 0) for (const { id } of rules) await changes.undo(id)
}

const GONE = /No such (process|device)|Cannot find device/

function planFirewall(options: DeviceSharing, machine: SharingMachine): Change {
  const { tun, mtu, own, denied, grants } = options
  const clamp = clampRules(tun, mtu)
  const all = grants.flatMap(({ addresses }) => addresses)
  const from = (addresses: readonly string[], family: Family) => {
    const hosts = ofFamily(addresses, family).map(({ address }) => address)
    return hosts.length === 0 ? undefined : `${ipOf(family)} saddr { ${hosts.join(', ')} }`
  }
  const onward = grants.flatMap(grant =>
    FAMILIES.flatMap(family => {
      const who = from(grant.addresses, family)
      const to = ofFamily(grant.onward, family).map(formatNetwork)
      if (who === undefined) return []
      // One rule for all hosts; networks may overlap, which a set may not.
      const hosts = to.filter(text => text.endsWith(family === 4 ? '/32' : '/128'))
      const wider = to.filter(text => !hosts.includes(text))
      const all = [...(hosts.length === 0 ? [] : [`{ ${[...new Set(hosts)].join(', ')} }`]), ...wider]
      return all.map(each => `oifname "${tun}" ${who} ${ipOf(family)} daddr ${each}`)
    }),
  )
  return tableChange(tableOf(tun), [
    ...FAMILIES.map(family => networkSet(`denied${family}`, family, ofFamily(denied, family))),
    chain('first', 'filter hook prerouting priority raw', [
      // Neighbours do not speak for devices.
      ...FAMILIES.flatMap(family => from(all, family) ?? []).map(who => `iifname != { "lo", "${tun}" } ${who} drop`),
      ...clamp.arriving,
    ]),
    innerChain('granted', [
      ...(onward.length > 0 ? [`oifname "${tun}" ct direction reply ${REPLIES}`] : []),
      ...onward.map(rule => `${rule} accept`),
      `oifname "${tun}" ${REFUSE}`,
      ...grants.flatMap(({ addresses, networks, internet }) =>
        FAMILIES.flatMap(family => {
          const who = from(addresses, family)
          if (who === undefined) return []
          const ip = ipOf(family)
          const inside = ofFamily(networks, family).map(to => `${who} ${ip} daddr ${formatNetwork(to)} accept`)
          // Of IPv6 global unicast; the rest is special or not assigned.
          const unicast = family === 6 ? 'ip6 daddr 2000::/3 ' : ''
          return [...inside, ...(internet ? [`${who} ${unicast}${ip} daddr != @denied${family} accept`] : [])]
        }),
      ),
      REFUSE,
    ]),
    chain('forward', 'filter hook forward priority filter', [
      `iifname "${tun}" jump granted`,
      `oifname "${tun}" ${REPLIES}`,
      `oifname "${tun}" drop`,
      ...(machine.isRouter ? [] : [`iifname != "${tun}" drop`]),
    ]),
    chain('input', 'filter hook input priority filter', [
      ...FAMILIES.flatMap(family => {
        const hosts = ofFamily(own, family).map(({ address }) => address)
        const elsewhere = hosts.length === 0 ? '' : ` ${ipOf(family)} daddr != { ${hosts.join(', ')} }`
        return [`iifname "${tun}" meta nfproto ipv${family}${elsewhere} ${REFUSE}`]
      }),
    ]),
    chain('leaving', 'filter hook postrouting priority mangle', [
      ...clamp.leaving,
      // A packet that goes on where it came from is no reason to tell its sender of a shorter way.
      ...(onward.length > 0 ? [`oifname "${tun}" icmp type redirect drop`] : []),
    ]),
    chain('source', 'nat hook postrouting priority srcnat', [
      ...onward.map(rule => `${rule} masquerade`),
      ...FAMILIES.flatMap(family => from(all, family) ?? []).map(who => `${who} oifname != "${tun}" masquerade`),
    ]),
  ])
}

function forwarding(name: string, value: string): Change {
  return { id: `${PREFIX} ${name}`, step: { kind: 'sysctl', name, value } }
}

async function detectMachine({ grants }: DeviceSharing, pending: ReadonlySet<string>): Promise<SharingMachine> {
  const machine = await detectExitMachine()
  const networks = new Set(grants.flatMap(grant => grant.networks).filter(text => parseNetwork(text).family === 4))
  const interfaces4 = await Promise.all([...networks].map(waysTo))
  // What we have switched on ourselves makes no router of it.
  const isOurs = pending.has(`${PREFIX} net/ipv6/conf/all/forwarding`)
  const isRouter = isOurs ? readFileSync('/proc/sys/net/ipv4/ip_forward', 'utf8').trim() === '1' : machine.isRouter
  return { ...machine, isRouter, interfaces4: interfaces4.flat() }
}

/** The interfaces that lead into a network of IPv4: by the longest prefix that it is of, and by those that are of it. */
async function waysTo(network: string): Promise<string[]> {
  const routes = async (which: 'match' | 'root') => {
    const output = await capture({ run: ['ip', '-json', '-4', 'route', 'show', which, network] })
    return JSON.parse(output || '[]') as { readonly dst?: string; readonly dev?: string }[]
  }
  const bitsOf = (dst = 'default') => (dst === 'default' ? 0 : parseNetwork(dst).bits)
  const [widest] = (await routes('match')).toSorted((a, b) => bitsOf(b.dst) - bitsOf(a.dst))
  return [widest, ...(await routes('root'))].flatMap(found => found?.dev ?? [])
}

function check({ tun, mtu, own, denied, grants }: DeviceSharing): void {
  checkInterfaceName(tun)
  checkInteger(mtu, MTU_LEAST, 65_535, 'MTU')
  const networks = grants.flatMap(grant => [...grant.addresses, ...grant.networks, ...grant.onward])
  for (const list of [own, denied, networks]) checkInteger(list.length, 0, MAX_ENTRIES, 'number of entries')
  ;[...own, ...denied, ...networks].forEach(parseNetwork)
}

function hasNetworks({ networks, onward }: DeviceGrant, family: Family): boolean {
  return [...networks, ...onward].some(network => parseNetwork(network).family === family)
}

function tableOf(tun: string): string {
  return `hoplite-${tun}-offers`
}

function route(network: string, verb: string, ...words: string[]): Command {
  return ip(parseNetwork(network).family, 'route', verb, ...words, 'table', TABLE)
}

function ip(family: Family, ...words: string[]): Command {
  return { run: ['ip', `-${family}`, ...words] }
}

function ipOf(family: Family): 'ip' | 'ip6' {
  return family === 4 ? 'ip' : 'ip6'
}
