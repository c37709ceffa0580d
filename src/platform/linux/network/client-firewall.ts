// The firewall of a client, as one table of nft. README.md has the table of what may leave and why.
//
// With the kill switch everything that is not allowed here is refused, and the table stays when the process that made it
// dies. Without it, only what makes the tunnel work is left: marks, addresses, segment sizes.
//
// Rules name the TUN by its name, so that they hold before it is there and after it is gone. Connection tracking puts
// fragments together before any of these chains, so a fragment is judged as the whole packet that it belongs to.

import type { Change } from './changes.ts'
import { type ClientNetworkOptions, isSealed, isSelective, marksOf, walledOff } from './client-options.ts'
import { type Family, formatNetwork, formatUsers, ofFamily, parseInterface } from './networks.ts'
import { chain, clampRules, endpointSets, FAMILIES, hostSets, networkSet, tableChange, toEndpoint } from './nft.ts'

const REFUSE = 'reject with icmpx type admin-prohibited'
const DNS = 'meta l4proto { tcp, udp } th dport { 53, 853 }'
/** Bytes: 1,280 without the headers of IPv6 and TCP. */
const CONTROL_SEGMENT = 1_220
const REPLIES = 'ct state established,related accept'

export function clientTable(tun: string): string {
  return `hoplite-${tun}`
}

/** The change that puts the firewall up; pure. */
export function planClientFirewall(options: ClientNetworkOptions): Change {
  const clamp = clampRules(options.tun, options.mtu)
  return tableChange(clientTable(options.tun), [
    ...endpointSets('relays', options.relays),
    ...endpointSets('control', options.control),
    ...(options.devices === undefined ? [] : hostSets('links')),
    ...FAMILIES.flatMap(family => [
      networkSet(`lan${family}`, family, ofFamily(options.lan, family)),
      networkSet(`outside${family}`, family, ofFamily(options.split.excludeNetworks ?? [], family)),
    ]),
    chain('first', 'filter hook prerouting priority raw', strangersToTunnel(options)),
    chain('arriving', 'filter hook prerouting priority mangle', [...restoreMarks(options), ...shortSegments('s')]),
    chain('arriving_clamp', 'filter hook prerouting priority mangle', clamp.arriving),
    chain('marking', 'route hook output priority mangle', marking(options)),
    ...(options.killSwitch ? killSwitch(options) : []),
    chain('leaving', 'filter hook postrouting priority mangle', [
      ...keepMarks(options),
      ...clamp.leaving,
      ...shortSegments('d'),
    ]),
    chain('source', 'nat hook postrouting priority srcnat', sourceAddresses(options)),
    chain('last', 'filter hook postrouting priority 300', intoTunnel(options)),
  ])
}

function killSwitch(options: ClientNetworkOptions): string[] {
  const policy = isSealed(options) ? 'drop' : 'accept'
  return [
    chain('output', 'filter hook output priority filter', output(options), policy),
    chain('input', 'filter hook input priority filter', input(options), policy),
    chain('forward', 'filter hook forward priority filter', forward(options), policy),
  ]
}

function output(options: ClientNetworkOptions): string[] {
  const { own, outside } = marksOf(options)
  return [
    'oifname "lo" accept',
    `oifname "${options.tun}" accept`,
    ...toEndpoint('relays').map(to => `meta mark ${own} ${to} accept`),
    `meta mark ${own} drop`,
    ...toDevices(options),
    ...toEndpoint('control').flatMap(to => [
      `meta skuid ${options.uid} ${to} accept`,
      // The last packets of a connection belong to no socket, and so to no user.
      `${to} ct state established accept`,
    ]),
    'udp sport 68 udp dport 67 accept',
    'udp sport 546 udp dport 547 ip6 daddr { fe80::/10, ff02::1:2 } accept',
    'ip6 hoplimit 255 icmpv6 type { nd-router-solicit, nd-neighbor-solicit, nd-neighbor-advert } accept',
    'ip6 daddr ff02::16 icmpv6 type mld2-listener-report accept',
    ...(options.dns === undefined && !isSealed(options) ? [] : [`${DNS} ${REFUSE}`]),
    'ip daddr @lan4 accept',
    'ip6 daddr @lan6 accept',
    'ip daddr @outside4 accept',
    'ip6 daddr @outside6 accept',
    ...users(options.split.excludeUsers).map(user => `${user} accept`),
    ...((options.split.excludeCgroups?.length ?? 0) > 0 ? [`meta mark ${outside} accept`] : []),
    ...walls(options).flatMap(wall => insiders(options).map(who => `${who}${wall}${REFUSE}`)),
  ]
}

function input(options: ClientNetworkOptions): string[] {
  return [
    'iifname "lo" accept',
    ...fromDevices(options),
    `iifname "${options.tun}" ${REPLIES}`,
    `iifname "${options.tun}" drop`,
    REPLIES,
    'udp sport 67 udp dport 68 accept',
    'ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept',
    'ip6 hoplimit 255 icmpv6 type { nd-router-advert, nd-neighbor-solicit, nd-neighbor-advert } accept',
    'ip6 saddr fe80::/10 icmpv6 type mld-listener-query accept',
    'ip saddr @lan4 accept',
    'ip6 saddr @lan6 accept',
  ]
}

/** The links speak to hosts that devices told us of, or that answered as a device does; whoever else speaks to them is judged there. */
function toDevices(options: ClientNetworkOptions): string[] {
  if (options.devices === undefined) return []
  const { links } = marksOf(options)
  return [
    `oifname "${options.devices.interface}" accept`,
    `meta mark ${links} meta l4proto udp ip daddr @links4 accept`,
    `meta mark ${links} meta l4proto udp ip6 daddr @links6 accept`,
    `meta mark ${links} drop`,
  ]
}

/** What a device may begin was asked before its packet came to the interface. */
function fromDevices(options: ClientNetworkOptions): string[] {
  const { devices } = options
  if (devices === undefined) return []
  const from = FAMILIES.flatMap(family => {
    return ofFamily(devices.networks, family).map(network => `${ip(family)} saddr ${formatNetwork(network)}`)
  })
  return [
    `meta l4proto udp socket mark ${marksOf(options).links} accept`,
    ...from.map(own => `iifname "${devices.interface}" ${own} accept`),
    `iifname "${devices.interface}" ${REPLIES}`,
    `iifname "${devices.interface}" drop`,
  ]
}

/** What this machine passes on, for containers and virtual machines: through the tunnel, or to what was chosen. */
function forward(options: ClientNetworkOptions): string[] {
  if (isSelective(options)) return []
  return [
    `iifname "${options.tun}" ${REPLIES}`,
    `iifname "${options.tun}" drop`,
    `oifname "${options.tun}" accept`,
    ...(options.dns === undefined && !isSealed(options) ? [] : [`${DNS} ${REFUSE}`]),
    ...['lan', 'outside'].flatMap(set => [
      `ip daddr @${set}4 accept`,
      `ip6 daddr @${set}6 accept`,
      `ip saddr @${set}4 ${REPLIES}`,
      `ip6 saddr @${set}6 ${REPLIES}`,
    ]),
    ...walls(options).map(wall => `${wall}${REFUSE}`.trimStart()),
  ]
}

/** What belongs to the tunnel, as the middle of a rule. */
function walls(options: ClientNetworkOptions): string[] {
  return FAMILIES.flatMap(family => {
    const walled = walledOff(options, family)
    if (walled === 'all') return [`meta nfproto ipv${family} `]
    if (walled.length === 0) return []
    return [`${ip(family)} daddr { ${walled.map(formatNetwork).join(', ')} } `]
  })
}

/** Whose traffic belongs to the tunnel, as the beginning of a rule. */
function insiders(options: ClientNetworkOptions): string[] {
  if (!isSelective(options)) return ['']
  const { inside } = marksOf(options)
  const byCgroup = (options.split.onlyCgroups?.length ?? 0) > 0 ? [`meta mark ${inside} `] : []
  return [...users(options.split.onlyUsers).map(user => `${user} `), ...byCgroup]
}

/** Packets for the tunnel's addresses that come another way: neighbours that guess them learn nothing. */
function strangersToTunnel({ tun, addresses }: ClientNetworkOptions): string[] {
  return addresses.map(parseInterface).map(({ family, address }) => {
    return `iifname != "${tun}" ${ip(family)} daddr ${address} fib saddr type != local drop`
  })
}

/** Replies carry the mark of what they answer: with it the reverse path filter sees that they came the right way. */
function restoreMarks(options: ClientNetworkOptions): string[] {
  return [`ct mark { ${keptMarks(options)} } meta mark set ct mark`]
}

function keepMarks(options: ClientNetworkOptions): string[] {
  return [`meta mark { ${keptMarks(options)} } ct mark set meta mark`]
}

/** The directory's connections pass a link of 1,280 bytes whose router says nothing: no system looks for that by itself. */
function shortSegments(side: 's' | 'd'): string[] {
  return FAMILIES.map(family => {
    const endpoint = `${ip(family)} ${side}addr . meta l4proto . th ${side}port @control${family}`
    return `${endpoint} tcp flags & (syn | rst) == syn tcp option maxseg size set ${CONTROL_SEGMENT}`
  })
}

function keptMarks(options: ClientNetworkOptions): string {
  const { own, outside, links } = marksOf(options)
  return [own, outside, ...(options.devices === undefined ? [] : [links])].join(', ')
}

function marking(options: ClientNetworkOptions): string[] {
  const { own, outside, inside } = marksOf(options)
  const { split } = options
  return [
    ...toEndpoint('control').map(to => `meta skuid ${options.uid} ${to} ct mark set ${own}`),
    ...users(split.excludeUsers).map(user => `oifname != "lo" ${user} ct mark set ${outside}`),
    ...cgroups(options, split.excludeCgroups).map(group => `oifname != "lo" ${group} meta mark set ${outside}`),
    ...cgroups(options, split.onlyCgroups).map(group => `oifname != "lo" ${group} meta mark set ${inside}`),
  ]
}

/** A packet whose way was changed after it chose its source has the address of the other way. */
function sourceAddresses(options: ClientNetworkOptions): string[] {
  const { outside } = marksOf(options)
  return [
    ...FAMILIES.flatMap(family => {
      const others = notFrom(options, family)
      return others === undefined ? [] : [`oifname "${options.tun}" ${others} masquerade`]
    }),
    `meta mark ${outside} oifname != { "lo", "${options.tun}" } masquerade`,
  ]
}

/** The exit learns no address of this machine, and no multicast of its network: those would tell whose it is. */
function intoTunnel(options: ClientNetworkOptions): string[] {
  return [
    // A route that is added to main without its device finds its gateway through the TUN: no packet goes round and round.
    `oifname "${options.tun}" meta mark ${marksOf(options).own} drop`,
    ...(options.devices === undefined ? [] : [`oifname "${options.tun}" meta mark ${marksOf(options).links} drop`]),
    `oifname "${options.tun}" ip daddr { 224.0.0.0/4, 255.255.255.255 } drop`,
    `oifname "${options.tun}" ip6 daddr { ff00::/8, fe80::/10 } drop`,
    ...FAMILIES.map(family => {
      return `oifname "${options.tun}" ${notFrom(options, family) ?? `meta nfproto ipv${family}`} drop`
    }),
  ]
}

/** Matches packets of a family that are not from the tunnel's addresses; `undefined` when it has none. */
function notFrom({ addresses }: ClientNetworkOptions, family: Family): string | undefined {
  const own = addresses.map(parseInterface).filter(network => network.family === family)
  if (own.length === 0) return undefined
  return `${ip(family)} saddr != { ${own.map(({ address }) => address).join(', ')} }`
}

function users(ranges: ClientNetworkOptions['split']['onlyUsers'] = []): string[] {
  return ranges.map(range => `meta skuid ${formatUsers(range)}`)
}

/** The level counts within the hierarchy; the path is looked up below /sys/fs/cgroup. */
function cgroups({ cgroupMount }: ClientNetworkOptions, paths: readonly string[] = []): string[] {
  const mount = cgroupMount === undefined ? '' : `${cgroupMount}/`
  return paths.map(path => `socket cgroupv2 level ${path.split('/').length} "${mount}${path}"`)
}

function ip(family: Family): 'ip' | 'ip6' {
  return family === 4 ? 'ip' : 'ip6'
}
