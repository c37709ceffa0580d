// What a client changes on its machine, in order. The order is the point: the firewall is first and goes last, so there is
// no moment in which a packet finds a way around the tunnel. README.md has the order and the table of rules.
//
// Everything goes through an own routing table, asked before table main: routes that a network's DHCP server or router
// announces land in main, and decide only for our own marked sockets. Behind each route through the TUN stands an
// unreachable one: when the TUN goes with the process that held it, packets do not fall through to main.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import type { Change, Changes } from './changes.ts'
import { clientTable, planClientFirewall } from './client-firewall.ts'
import { type ClientNetworkOptions, checkClientOptions, isSelective, marksOf, walledOff } from './client-options.ts'
import { planDns } from './dns.ts'
import {
  checkEndpoint,
  type Endpoint,
  type Family,
  familyOf,
  formatNetwork,
  formatUsers,
  ofFamily,
  parseInterface,
} from './networks.ts'
import { clampRules, FAMILIES, listTable, replaceEndpoints, replaceHosts, runNft } from './nft.ts'
import { type Command, capture } from './steps.ts'

/** Behind any metric that a route through the TUN has. */
const LAST_METRIC = '4278198272'

/** The order of the routing rules, as distances from the first priority. */
const RULE = {
  ownMark: 0,
  ownMarkNowhere: 1,
  control: 2,
  controlNowhere: 3,
  dns: 4,
  outside: 5,
  lan: 6,
  tunnel: 9,
} as const

/** The changes, first to last; pure. Throws RangeError for options that make no sense. */
export function planClientNetwork(options: ClientNetworkOptions): Change[] {
  checkClientOptions(options)
  return [
    planClientFirewall(options),
    { id: 'marks count in reverse paths', step: sysctl('net/ipv4/conf/all/src_valid_mark', '1') },
    ...planLink(options),
    ...families(options).map(family => planTable(options, family)),
    ...families(options).map(family => planRules(options, family)),
    ...options.control.filter(hasFamily(options)).map(endpoint => planControl(options, endpoint)),
    ...families(options).map(family => planTunnelRule(options, family)),
    ...(options.dns === undefined ? [] : planDns(options.tun, options.dns)),
  ]
}

/**
 * Makes the changes, in the place of those that an earlier run left: its firewall stays up until this one replaces it. The
 * TUN is there already, and down. When a change fails the firewall stays, the rest is undone and the error is thrown.
 */
export async function applyClientNetwork(changes: Changes, options: ClientNetworkOptions): Promise<void> {
  assertCgroups(options)
  await changes.makeAll(planClientNetwork(options))
}

/** The firewall looks a cgroup up once, when it is put up. Throws CHANGE_FAILED where one is missing. */
function assertCgroups({ split, cgroupMount }: ClientNetworkOptions): void {
  for (const name of [...(split.excludeCgroups ?? []), ...(split.onlyCgroups ?? [])]) {
    const folder = path.join('/sys/fs/cgroup', cgroupMount ?? '', name)
    if (existsSync(folder)) continue
    const advice = `make it first: mkdir ${folder}; systemd-cgls lists those there are`
    throw new HopliteError('CHANGE_FAILED', `find the cgroup ${name}: there is no ${folder}`, advice)
  }
}

/** Makes again what of these changes others may have taken away: the firewall, and what leads to it. Throws as `applyClientNetwork`. */
export async function mendClientNetwork(changes: Changes, options: ClientNetworkOptions): Promise<void> {
  const guarded = planClientNetwork(options).filter(({ id }) =>
    /^(firewall|routes|rules|control|tunnel rule) /.test(id),
  )
  for (const change of guarded) await changes.make({ ...change, replaces: true })
}

/** Our tables and rules as they are now; what is in sets of hosts is left out. */
export async function lookAtClientNetwork(options: ClientNetworkOptions): Promise<string> {
  const own = new RegExp(
    `^(${Object.values(RULE)
      .map(place => options.priority + place)
      .join('|')}):`,
  )
  const rules = families(options).map(async family => {
    const all = await capture({ run: ['ip', `-${family}`, 'rule', 'show'] })
    return all.split('\n').filter(line => own.test(line))
  })
  return [await listTable(clientTable(options.tun)), ...(await Promise.all(rules)).flat()].join('\n')
}

/** Lets marked sockets send to these relays and no others, at one moment. At most 1024. */
export async function updateRelays(tun: string, relays: readonly Endpoint[]): Promise<void> {
  relays.forEach(checkEndpoint)
  await runNft(replaceEndpoints(clientTable(tun), 'relays', relays))
}

/** Lets our unmarked sockets connect to these endpoints around the tunnel and no others. At most 1024. */
export async function updateControl(
  changes: Changes,
  options: ClientNetworkOptions,
  control: readonly Endpoint[],
): Promise<void> {
  control.forEach(checkEndpoint)
  const wanted = new Map(
    control.filter(hasFamily(options)).map(endpoint => {
      const change = planControl(options, endpoint)
      return [change.id, change] as const
    }),
  )
  const pending = new Set(changes.pending())
  await runNft(replaceEndpoints(clientTable(options.tun), 'control', control))
  for (const id of pending) if (id.startsWith('control ') && !wanted.has(id)) await changes.undo(id)
  for (const [id, change] of wanted) if (!pending.has(id)) await changes.make(change)
}

/** Lets the links to one's devices speak to these hosts and no others, at one moment. At most 1024. */
export async function updateLinks(tun: string, hosts: readonly string[]): Promise<void> {
  await runNft(replaceHosts(clientTable(tun), 'links', hosts))
}

/** Sets the MTU of the tunnel and the segment sizes that follow from it. Bytes, 1280 to 65535. */
export async function updateMtu(tun: string, mtu: number): Promise<void> {
  const table = `inet ${clientTable(tun)}`
  const { arriving } = clampRules(tun, mtu)
  await capture({ run: ['ip', 'link', 'set', 'dev', tun, 'mtu', String(mtu)] })
  const rules = arriving.map(rule => `add rule ${table} arriving_clamp ${rule}\n`)
  await runNft(`flush chain ${table} arriving_clamp\n${rules.join('')}`)
}

/**
 * Ends established TCP connections from these addresses as if the far end had: whoever only listens would never notice by
 * itself that nobody speaks any more (ss(8), SOCK_DESTROY). Throws PROGRAM_MISSING or CHANGE_FAILED.
 */
export async function resetConnectionsFrom(addresses: readonly string[]): Promise<void> {
  const own = addresses.map(parseInterface)
  const from = own.flatMap(({ family, address }, i) => [
    ...(i === 0 ? [] : ['or']),
    'src',
    family === 6 ? `[${address}]` : address,
  ])
  await capture({ run: ['ss', '--kill', '--tcp', '--no-header', 'state', 'established', '(', ...from, ')'] })
}

/** Whether this kernel has IPv6. */
export function kernelHasIpv6(): boolean {
  return existsSync('/proc/sys/net/ipv6')
}

/** Where below /sys/fs/cgroup the cgroups of version 2 are, when that is not all of it. */
export function cgroupMount(): string | undefined {
  return existsSync('/sys/fs/cgroup/unified/cgroup.procs') ? 'unified' : undefined
}

function planLink(options: ClientNetworkOptions): Change[] {
  const { tun, mtu, hasIpv6 } = options
  const own = options.addresses.map(parseInterface).filter(({ family }) => family === 4 || hasIpv6)
  const addresses = own.map(({ family, address, bits }): Command => {
    // No route of its own: the table says what goes through the TUN. No waiting for duplicates: nobody else is there.
    const flags = family === 6 ? ['nodad', 'noprefixroute'] : ['noprefixroute']
    return { run: ['ip', 'address', 'add', `${address}/${bits}`, 'dev', tun, ...flags] }
  })
  return [
    // The answer to a packet of one user may have no route through the TUN: what comes through it was authenticated.
    { id: `reverse path ${tun}`, step: sysctl(`net/ipv4/conf/${tun}/rp_filter`, '2') },
    ...(hasIpv6
      ? [
          { id: `ipv6 ${tun}`, step: sysctl(`net/ipv6/conf/${tun}/disable_ipv6`, '0') },
          { id: `advertisements ${tun}`, step: sysctl(`net/ipv6/conf/${tun}/accept_ra`, '0') },
        ]
      : []),
    {
      id: `link ${tun}`,
      step: {
        kind: 'commands',
        do: [
          { run: ['ip', 'link', 'set', 'dev', tun, 'mtu', String(mtu)] },
          ...(hasIpv6 ? [{ run: ['ip', 'link', 'set', 'dev', tun, 'addrgenmode', 'none'] } as const] : []),
          ...addresses,
          { run: ['ip', 'link', 'set', 'dev', tun, 'up'] },
        ],
        undo: [{ run: ['ip', 'link', 'set', 'dev', tun, 'down'] }, { run: ['ip', 'address', 'flush', 'dev', tun] }],
      },
    },
  ]
}

function planTable(options: ClientNetworkOptions, family: Family): Change {
  const { tun, mark } = options
  const walled = walledOff(options, family)
  const table = ['table', String(mark)]
  const carried = options.addresses.some(address => parseInterface(address).family === family)
  const through = carried ? [...ofFamily(options.routes, family), ...ofFamily(options.dns?.servers ?? [], family)] : []
  const blocked = walled === 'all' ? ['default'] : walled.map(formatNetwork)
  const last = options.killSwitch || !carried ? blocked : []
  const refused = ofFamily(options.refused ?? [], family).map(formatNetwork)
  return {
    id: `routes ${tun} ipv${family}`,
    step: {
      kind: 'commands',
      do: [
        ...last.map(to => ip(family, 'route', 'replace', 'unreachable', to, 'metric', LAST_METRIC, ...table)),
        ...refused.map(to => ip(family, 'route', 'replace', 'unreachable', to, 'metric', '1', ...table)),
        ...through
          .filter(network => !refused.includes(formatNetwork(network)))
          .map(to => ip(family, 'route', 'replace', formatNetwork(to), 'dev', tun, 'metric', '1', ...table)),
      ],
      undo: [ip(family, 'route', 'flush', ...table)],
    },
  }
}

/** The rules before those of the control endpoints and of the tunnel. */
function planRules(options: ClientNetworkOptions, family: Family): Change {
  const { own, outside } = marksOf(options)
  const { split } = options
  const around = ofFamily(split.excludeNetworks ?? [], family).map(formatNetwork)
  // Without main's default route: a LAN is what is attached, and not what its router would like to have.
  const near = [...ofFamily(options.lan, family).map(formatNetwork), ...(family === 6 ? ['fe80::/10'] : [])]
  const rules = [
    rule(options, 'ownMark', 'fwmark', String(own), 'lookup', 'main'),
    // No network: a packet of the tunnel itself must not find its way into the tunnel.
    rule(options, 'ownMarkNowhere', 'fwmark', String(own), 'unreachable'),
    ...ofFamily(options.dns?.servers ?? [], family).map(to => {
      return rule(options, 'dns', 'to', formatNetwork(to), 'lookup', String(options.mark))
    }),
    // A lease is renewed from an interface: the unreachable route of the table would stop that too.
    rule(options, 'outside', 'ipproto', 'udp', ...leasePorts(family), 'lookup', 'main'),
    rule(options, 'outside', 'fwmark', String(outside), 'lookup', 'main'),
    ...(split.excludeUsers ?? []).map(range => {
      return rule(options, 'outside', 'uidrange', formatUsers(range), 'lookup', 'main')
    }),
    ...around.map(to => rule(options, 'outside', 'to', to, 'lookup', 'main')),
    ...[...new Set(near)].map(to => {
      return rule(options, 'lan', 'to', to, 'lookup', 'main', 'suppress_prefixlength', '0')
    }),
  ]
  return rulesChange(`rules ${options.tun} ipv${family}`, family, rules)
}

/** DHCP, client to server. */
function leasePorts(family: Family): readonly string[] {
  return family === 4 ? ['sport', '68', 'dport', '67'] : ['sport', '546', 'dport', '547']
}

function planControl(options: ClientNetworkOptions, { address, protocol, port }: Endpoint): Change {
  const family = familyOf(address)
  const user = ['uidrange', formatUsers({ from: options.uid, to: options.uid })]
  const to = ['to', address, 'ipproto', protocol, 'dport', String(port), ...user]
  return rulesChange(`control ${address} ${protocol} ${port}`, family, [
    rule(options, 'control', ...to, 'lookup', 'main'),
    rule(options, 'controlNowhere', ...to, 'unreachable'),
  ])
}

/** The last rule: what was not spoken of is for the tunnel's table. */
function planTunnelRule(options: ClientNetworkOptions, family: Family): Change {
  const { inside } = marksOf(options)
  const { onlyUsers = [], onlyCgroups = [] } = options.split
  const who = isSelective(options)
    ? [
        ...onlyUsers.map(range => ['uidrange', formatUsers(range)]),
        ...(onlyCgroups.length > 0 ? [['fwmark', String(inside)]] : []),
      ]
    : [[]]
  const rules = who.map(words => rule(options, 'tunnel', ...words, 'lookup', String(options.mark)))
  return rulesChange(`tunnel rule ${options.tun} ipv${family}`, family, rules)
}

function rulesChange(id: string, family: Family, rules: readonly (readonly string[])[]): Change {
  const unique = [...new Map(rules.map(words => [words.join(' '), words])).values()]
  const commands = (verb: 'add' | 'del') => unique.map(words => ip(family, 'rule', verb, ...words))
  return { id, step: { kind: 'commands', do: commands('add'), undo: commands('del').toReversed() } }
}

function rule({ priority }: ClientNetworkOptions, place: keyof typeof RULE, ...words: string[]): readonly string[] {
  return ['priority', String(priority + RULE[place]), ...words]
}

function ip(family: Family, ...words: string[]): Command {
  return { run: ['ip', `-${family}`, ...words] }
}

function sysctl(name: string, value: string) {
  return { kind: 'sysctl', name, value } as const
}

function families({ hasIpv6 }: ClientNetworkOptions): readonly Family[] {
  return hasIpv6 ? FAMILIES : [4]
}

function hasFamily({ hasIpv6 }: ClientNetworkOptions): (endpoint: Endpoint) => boolean {
  return ({ address }) => hasIpv6 || familyOf(address) === 4
}
