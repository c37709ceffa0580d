// What an exit changes on its machine: a TUN with the tunnel networks, forwarding between it and the interface that leads
// to the internet, addresses translated there, and a filter that comes first and goes last.
//
// Clients reach the public internet and nothing else: not each other, not this machine, not what is around it, unless an
// endpoint is in `allowed`. Forwarding is switched on for two interfaces only (IPv6 knows one switch for all); on a machine
// that was no router before, everything else that could be forwarded then is dropped.

import { readFileSync } from 'node:fs'
import type { Change, Changes } from './changes.ts'
import {
  checkEndpoint,
  checkInteger,
  checkInterfaceName,
  type Endpoint,
  type Family,
  familyOf,
  formatNetwork,
  type Network,
  ofFamily,
  parseInterface,
  parseNetwork,
} from './networks.ts'
import { chain, clampRules, endpointSets, FAMILIES, innerChain, networkSet, tableChange, toEndpoint } from './nft.ts'
import { type Command, capture } from './steps.ts'

/** A rule of the exit's operator: the first that matches decides. */
export interface OperatorRule {
  readonly action: 'allow' | 'deny'
  /** Absent: any address. */
  readonly network?: string
  /** Absent: any port, and what has no ports. */
  readonly ports?: { readonly from: number; readonly to: number }
}

export interface ExitNetworkOptions {
  readonly tun: string
  /** The exit's addresses in the tunnel networks, one for each family at most: `10.64.0.1/16`, `fd64::1/64`. */
  readonly addresses: readonly string[]
  /** Bytes, 1280 to 65535. */
  readonly mtu: number
  /** Networks that no client reaches: all that are not public. */
  readonly denied: readonly string[]
  readonly rules: readonly OperatorRule[]
  /** Reached in spite of all this: a resolver of the exit's, a laboratory's origin. */
  readonly allowed: readonly Endpoint[]
  /** What clients ask names of: an IPv4 address that stands for one of 1 to 4 servers, with each question the next. */
  readonly resolver?: { readonly address: string; readonly servers: readonly string[] }
  readonly clientsMeet: boolean
}

/** The machine as it is before anything is changed. */
export interface ExitMachine {
  /** The interfaces of the default routes. */
  readonly outward4: string | undefined
  readonly outward6: string | undefined
  /** Whether it forwarded before. */
  readonly isRouter: boolean
  /** Whether its IPv6 default route comes from advertisements, which a router does not listen to unless told. */
  readonly listensToRouters: boolean
  readonly hasIpv6: boolean
}

/** What was asked, on the machine that was found. */
type Plan = ExitNetworkOptions & { readonly machine: ExitMachine }

const REFUSE = 'reject with icmpx type admin-prohibited'
const REPLIES = 'ct state established,related accept'
const MAX_ENTRIES = 1024
/** Mail is shut unless a rule opens it. */
const SMTP = 25
const DNS = 53
const MAX_RESOLVERS = 4

/** The changes, first to last; pure. Throws RangeError for options that make no sense. */
export function planExitNetwork(asked: ExitNetworkOptions, machine: ExitMachine): Change[] {
  const options = { ...asked, machine }
  check(options)
  const { tun } = options
  const families = machine.hasIpv6 ? FAMILIES : ([4] as const)
  return [
    planFirewall(options),
    planLink(options),
    ...families.flatMap(family => (outward(options, family) === undefined ? [] : planForwarding(tun, machine, family))),
  ]
}

/**
 * Undoes what an earlier run left (without its TUN nothing was forwarded), makes the changes, and gives what it found. The
 * TUN is there already. Throws PROGRAM_MISSING, NOT_PERMITTED or CHANGE_FAILED.
 */
export async function applyExitNetwork(changes: Changes, options: ExitNetworkOptions): Promise<ExitMachine> {
  await changes.undoAll()
  const machine = await detectExitMachine()
  await changes.makeAll(planExitNetwork(options, machine))
  return machine
}

/** Puts the firewall back where somebody has taken it away: without it clients would reach what is around the exit. */
export async function mendExitNetwork(
  changes: Changes,
  options: ExitNetworkOptions,
  machine: ExitMachine,
): Promise<void> {
  const [firewall] = planExitNetwork(options, machine)
  if (firewall !== undefined) await changes.make(firewall)
}

/** The machine as it is now. */
export async function detectExitMachine(): Promise<ExitMachine> {
  const outward4 = await defaultInterface(4)
  const outward6 = await defaultInterface(6).catch(() => undefined)
  return {
    outward4,
    outward6,
    isRouter: value('ipv4/ip_forward') === '1' || value('ipv6/conf/all/forwarding') === '1',
    listensToRouters: outward6 !== undefined && value(`ipv6/conf/${outward6}/accept_ra`) === '1',
    hasIpv6: value('ipv6/conf/all/forwarding') !== undefined,
  }
}

function planFirewall(options: Plan): Change {
  const { tun, mtu, machine } = options
  const clamp = clampRules(tun, mtu)
  const own = (['ip', 'ip6'] as const).flatMap(ip => {
    const network = tunnelNetwork(options, ip === 'ip' ? 4 : 6)
    return network === undefined ? [] : [{ ip, network: formatNetwork(network) }]
  })
  return tableChange(`hoplite-${tun}`, [
    ...endpointSets('allowed', [...options.allowed, ...resolverEndpoints(options)]),
    ...FAMILIES.map(family => networkSet(`denied${family}`, family, ofFamily(options.denied, family))),
    chain('first', 'filter hook prerouting priority raw', [
      // Neighbours neither speak for clients nor to them.
      ...own.map(({ ip, network }) => `iifname != { "lo", "${tun}" } ${ip} saddr ${network} drop`),
      ...own.map(({ ip, network }) => `iifname != { "lo", "${tun}" } ${ip} daddr ${network} drop`),
      ...clamp.arriving,
    ]),
    innerChain('clients', clientRules(options)),
    chain('forward', 'filter hook forward priority filter', [
      `iifname "${tun}" jump clients`,
      `oifname "${tun}" ${REPLIES}`,
      `oifname "${tun}" drop`,
      ...(machine.isRouter ? [] : [`iifname != "${tun}" drop`]),
    ]),
    chain('input', 'filter hook input priority filter', [
      `iifname "${tun}" ${REPLIES}`,
      ...toEndpoint('allowed').map(to => `iifname "${tun}" ${to} accept`),
      `iifname "${tun}" drop`,
    ]),
    chain('leaving', 'filter hook postrouting priority mangle', clamp.leaving),
    chain('names', 'nat hook prerouting priority dstnat', nameRules(options)),
    chain('source', 'nat hook postrouting priority srcnat', [
      ...own.map(({ ip, network }) => `${ip} saddr ${network} oifname != "${tun}" masquerade`),
    ]),
  ])
}

function nameRules({ tun, resolver }: Plan): string[] {
  if (resolver === undefined) return []
  const { address, servers } = resolver
  const map = servers.map((server, i) => `${i} : ${server}`).join(', ')
  const next = `numgen inc mod ${servers.length} map { ${map} }`
  return [`iifname "${tun}" ip daddr ${address} meta l4proto { tcp, udp } th dport ${DNS} dnat ip to ${next}`]
}

function resolverEndpoints({ resolver }: Plan): Endpoint[] {
  const protocols = ['udp', 'tcp'] as const
  return (resolver?.servers ?? []).flatMap(address => protocols.map(protocol => ({ address, protocol, port: DNS })))
}

/** For packets that come from a client, to be forwarded. */
function clientRules(options: Plan): string[] {
  const { tun } = options
  return [
    ...FAMILIES.map(family => {
      const network = tunnelNetwork(options, family)
      if (network === undefined) return `meta nfproto ipv${family} drop`
      return `${ipOf(family)} saddr != ${formatNetwork(network)} drop`
    }),
    `oifname "${tun}" ${options.clientsMeet ? 'accept' : REFUSE}`,
    ...toEndpoint('allowed').map(to => `${to} accept`),
    ...FAMILIES.map(family => {
      const name = outward(options, family)
      const elsewhere = name === undefined ? '' : ` oifname != "${name}"`
      return `meta nfproto ipv${family}${elsewhere} ${REFUSE}`
    }),
    `ip daddr @denied4 ${REFUSE}`,
    // Global unicast; the rest is special or not assigned.
    `ip6 daddr != 2000::/3 ${REFUSE}`,
    `ip6 daddr @denied6 ${REFUSE}`,
    ...options.rules.flatMap(operatorRule),
    `meta l4proto { tcp, udp } th dport ${SMTP} ${REFUSE}`,
    'accept',
  ]
}

function operatorRule({ action, network, ports }: OperatorRule): string[] {
  const verdict = action === 'allow' ? 'accept' : REFUSE
  const parsed = network === undefined ? undefined : parseNetwork(network)
  const to = parsed === undefined ? '' : `${ipOf(parsed.family)} daddr ${formatNetwork(parsed)} `
  const port = ports === undefined ? '' : `meta l4proto { tcp, udp } th dport ${ports.from}-${ports.to} `
  return [`${to}${port}${verdict}`]
}

function planLink({ tun, mtu, addresses, machine }: Plan): Change {
  const own = addresses.map(parseInterface).filter(({ family }) => family === 4 || machine.hasIpv6)
  const add = own.map(({ family, address, bits }): Command => {
    const flags = family === 6 ? ['nodad'] : []
    return { run: ['ip', 'address', 'replace', `${address}/${bits}`, 'dev', tun, ...flags] }
  })
  return {
    id: `link ${tun}`,
    step: {
      kind: 'commands',
      do: [
        { run: ['ip', 'link', 'set', 'dev', tun, 'mtu', String(mtu)] },
        ...(machine.hasIpv6 ? [{ run: ['ip', 'link', 'set', 'dev', tun, 'addrgenmode', 'none'] } as const] : []),
        ...add,
        { run: ['ip', 'link', 'set', 'dev', tun, 'up'] },
      ],
      undo: [{ run: ['ip', 'link', 'set', 'dev', tun, 'down'] }, { run: ['ip', 'address', 'flush', 'dev', tun] }],
    },
  }
}

function planForwarding(tun: string, machine: ExitMachine, family: Family): Change[] {
  const set = (name: string, value: string): Change => ({
    id: `${name} ${tun}`,
    step: { kind: 'sysctl', name: `net/ipv${family}/conf/${name}`, value },
  })
  if (family === 4) return [set(`${machine.outward4}/forwarding`, '1'), set(`${tun}/forwarding`, '1')]
  return [
    // First, or the default route of the machine itself would run out.
    ...(machine.listensToRouters ? [set(`${machine.outward6}/accept_ra`, '2')] : []),
    set('all/forwarding', '1'),
  ]
}

function check(options: Plan): void {
  checkInterfaceName(options.tun)
  checkInteger(options.mtu, 1280, 65_535, 'MTU')
  for (const family of FAMILIES) {
    const own = options.addresses.map(parseInterface).filter(network => network.family === family)
    checkInteger(own.length, 0, 1, `number of IPv${family} tunnel networks`)
    const name = outward(options, family)
    // Interfaces of others may be called nearly anything.
    if (name !== undefined && !/^[A-Za-z0-9_.@-]{1,15}$/.test(name))
      throw new RangeError(`not an interface name: ${name}`)
  }
  for (const list of [options.denied, options.rules, options.allowed]) {
    checkInteger(list.length, 0, MAX_ENTRIES, 'number of entries')
  }
  options.denied.forEach(parseNetwork)
  options.allowed.forEach(checkEndpoint)
  if (options.resolver !== undefined) {
    const { address, servers } = options.resolver
    checkInteger(servers.length, 1, MAX_RESOLVERS, 'number of resolvers')
    for (const host of [address, ...servers]) {
      if (familyOf(host) !== 4) throw new RangeError(`not an IPv4 address: ${host}`)
    }
  }
  for (const { network, ports } of options.rules) {
    if (network !== undefined) parseNetwork(network)
    if (ports === undefined) continue
    checkInteger(ports.from, 1, 65_535, 'port')
    checkInteger(ports.to, ports.from, 65_535, 'last port')
  }
}

function tunnelNetwork({ addresses }: Plan, family: Family): Network | undefined {
  return ofFamily(addresses, family)[0]
}

function outward({ machine }: Plan, family: Family): string | undefined {
  return family === 4 ? machine.outward4 : machine.outward6
}

function ipOf(family: Family): 'ip' | 'ip6' {
  return family === 4 ? 'ip' : 'ip6'
}

async function defaultInterface(family: Family): Promise<string | undefined> {
  const output = await capture({ run: ['ip', '-json', `-${family}`, 'route', 'show', 'default'] })
  const routes = JSON.parse(output || '[]') as { dev?: string; metric?: number }[]
  return routes.toSorted((a, b) => (a.metric ?? 0) - (b.metric ?? 0))[0]?.dev
}

function value(name: string): string | undefined {
  try {
    return readFileSync(`/proc/sys/net/${name}`, 'utf8').trim()
  } catch {
    return undefined
  }
}
