// The language of nft, as far as our tables use it: sets and chains from lists. A table is replaced in one transaction:
// between the old rules and the new ones there is no moment without.

import { type Change } from './changes.ts'
import { type Endpoint, type Family, familyOf, formatNetwork, type Network } from './networks.ts'
import { type Command, capture } from './steps.ts'

/** The change that puts a table in its place; `body` is what stands between its braces. */
export function tableChange(table: string, body: readonly string[]): Change {
  const clear = `add table inet ${table}\ndelete table inet ${table}\n`
  const text = `${clear}table inet ${table} {\n${body.join('\n')}\n}\n`
  return {
    id: `firewall ${table}`,
    step: { kind: 'commands', do: [nft(text)], undo: [nft(clear)] },
    replaces: true,
  }
}

/** Carries out a script of nft in one transaction. Throws CHANGE_FAILED, NOT_PERMITTED or PROGRAM_MISSING. */
export async function runNft(script: string): Promise<void> {
  await capture(nft(script))
}

/** A table's chains and rules, without counts and without what is in sets; nothing where it is not there. Throws as `runNft`. */
export function listTable(table: string): Promise<string> {
  return capture({ run: ['nft', '--stateless', '--terse', 'list', 'table', 'inet', table] }, /No such file/)
}

/** A base chain: its hook, what happens at its end, and its rules. */
export function chain(
  name: string,
  hook: string,
  rules: readonly string[],
  policy: 'accept' | 'drop' = 'accept',
): string {
  return [`  chain ${name} {`, `    type ${hook}; policy ${policy};`, ...rules.map(rule => `    ${rule}`), '  }'].join(
    '\n',
  )
}

/** A chain that others jump to. */
export function innerChain(name: string, rules: readonly string[]): string {
  return [`  chain ${name} {`, ...rules.map(rule => `    ${rule}`), '  }'].join('\n')
}

/** A set of networks of one family; it may be empty. */
export function networkSet(name: string, family: Family, networks: readonly Network[]): string {
  const elements = networks.length === 0 ? '' : `elements = { ${networks.map(formatNetwork).join(', ')} };`
  return `  set ${name} { type ipv${family}_addr; flags interval; auto-merge; ${elements} }`
}

/** The two sets `NAME4` and `NAME6` of endpoints; `matches` gives what a rule says to look into them. */
export function endpointSets(name: string, endpoints: readonly Endpoint[]): string[] {
  return FAMILIES.map(family => {
    const inside = elements(endpoints, family)
    const type = `type ipv${family}_addr . inet_proto . inet_service;`
    return `  set ${name}${family} { ${type} ${inside === '' ? '' : `elements = { ${inside} };`} }`
  })
}

/** The script that gives two such sets these endpoints, and no others. */
export function replaceEndpoints(table: string, name: string, endpoints: readonly Endpoint[]): string {
  const lines = FAMILIES.flatMap(family => {
    const inside = elements(endpoints, family)
    const set = `inet ${table} ${name}${family}`
    return [`flush set ${set}`, ...(inside === '' ? [] : [`add element ${set} { ${inside} }`])]
  })
  return `${lines.join('\n')}\n`
}

/** The two empty sets `NAME4` and `NAME6` of hosts. */
export function hostSets(name: string): string[] {
  return FAMILIES.map(family => `  set ${name}${family} { type ipv${family}_addr; }`)
}

/** The script that gives two such sets these hosts, and no others. */
export function replaceHosts(table: string, name: string, hosts: readonly string[]): string {
  const lines = FAMILIES.flatMap(family => {
    const own = [...new Set(hosts.filter(host => familyOf(host) === family))]
    const set = `inet ${table} ${name}${family}`
    return [`flush set ${set}`, ...(own.length === 0 ? [] : [`add element ${set} { ${own.join(', ')} }`])]
  })
  return `${lines.join('\n')}\n`
}

/** The beginning of a rule for packets to one of the endpoints of a set, for both families. */
export function toEndpoint(name: string): string[] {
  return [`ip daddr . meta l4proto . th dport @${name}4`, `ip6 daddr . meta l4proto . th dport @${name}6`]
}

/** Lowers the segment size that connections agree on to what fits through the tunnel, in both directions. */
export function clampRules(tun: string, mtu: number): { readonly leaving: string[]; readonly arriving: string[] } {
  const syn = 'tcp flags & (syn | rst) == syn'
  return {
    leaving: [`oifname "${tun}" ${syn} tcp option maxseg size set rt mtu`],
    arriving: [
      `iifname "${tun}" meta nfproto ipv4 ${syn} tcp option maxseg size set ${mtu - 40}`,
      `iifname "${tun}" meta nfproto ipv6 ${syn} tcp option maxseg size set ${mtu - 60}`,
    ],
  }
}

export const FAMILIES = [4, 6] as const

function elements(endpoints: readonly Endpoint[], family: Family): string {
  const own = endpoints.filter(({ address }) => familyOf(address) === family)
  return [...new Set(own.map(({ address, protocol, port }) => `${address} . ${protocol} . ${port}`))].join(', ')
}

function nft(input: string): Command {
  return { run: ['nft', '-f', '-'], input }
}
