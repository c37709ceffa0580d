// hoplite.toml: every key, its default and what it must be. docs/configuration.md says the same in words, and a test holds
// the two together.

import { readFileSync, statSync } from 'node:fs'
import { distance } from 'fastest-levenshtein'
import { parse, TomlError } from 'smol-toml'
import { z } from 'zod'
import { HopliteError } from '#api/errors.ts'
import { DEVICE_NETWORK } from '#meet/device-address.ts'
import { readShareable } from '#mesh/shared-networks.ts'
import type { Hours } from '#relay/wireguard-gate.ts'
import { parseAddress, parseIp } from '#wire/address.ts'
import { isCountry } from '#wire/descriptor.ts'
import { isDeviceName } from '#wire/device-card.ts'
import { type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'

const MAX_FILE_BYTES = 256 * 1024
const MAX_PROBLEMS = 10
const MAX_KEY = 60

const address = z
  .string()
  .refine(text => parseAddress(text) !== undefined, 'an address like 192.0.2.1:51821 or [2001:db8::1]:51821')
const listenAddress = z
  .string()
  .refine(text => parseAddress(text.replace(/:0$/, ':1')) !== undefined, 'an address to listen on, like 0.0.0.0:51821')
const loopbackAddress = listenAddress.refine(
  text => /^(127\.\d+\.\d+\.\d+|\[::1\]):/.test(text),
  'an address of this machine alone, like 127.0.0.1:8090',
)
const ip = z.string().refine(text => parseIp(text) !== undefined, 'an IP address')
const ipv4 = z.string().refine(text => parseIp(text)?.length === 4, 'an IPv4 address')
const tunnelNetwork = z
  .string()
  .refine(isTunnelNetwork, 'a network like 10.64.0.0/16, from /16 to /29, or like fd64::/64, from /64 to /120')
const network = z.string().refine(isNetwork, 'a network like 203.0.113.0/24')
const nodeId = z.string().regex(/^[0-9a-f]{64}$/, 'a node id of 64 hex digits')
const multiaddr = z
  .string()
  .regex(
    /^\/(ip4|ip6|dns|dns4|dns6)\/[^/\s]+\/tcp\/\d{1,5}\/p2p\/[A-Za-z0-9]+$/,
    'a multiaddr like /ip4/192.0.2.1/tcp/51820/p2p/12D3…',
  )
const country = z.string().refine(isCountry, 'a country of two letters, like CH')
const port = z.number().int().min(1).max(65535)

const rule = z
  .strictObject({
    action: z.enum(['allow', 'deny']),
    network: network.optional(),
    from_port: port.optional(),
    to_port: port.optional(),
  })
  .refine(({ from_port = 1, to_port = 65_535 }) => from_port <= to_port, 'from_port that is at most to_port')

const someDevice = z.string().refine(text => text === '*' || isDeviceName(text), 'the name of a device, or *')
const offered = z.string().refine(isShareable, 'a private network like 192.168.1.0/24')
const portRule = z
  .strictObject({ device: someDevice, protocol: z.enum(['tcp', 'udp']), from_port: port, to_port: port })
  .refine(({ from_port, to_port }) => from_port <= to_port, 'from_port that is at most to_port')
const networkRule = z.strictObject({
  device: someDevice,
  network: z
    .string()
    .refine(text => text === 'internet' || isShareable(text), 'a private network like 192.168.1.0/24, or "internet"'),
})
const deviceRule = z.union([portRule, networkRule])
const acceptedNetwork = z.strictObject({
  device: z.string().refine(isDeviceName, 'the name of a device'),
  network: offered,
})
const turnServer = z.strictObject({
  address,
  username: z.string().max(500),
  /** A secret stands in no configuration: it is shown to whoever may see that. */
  password_file: z.string().min(1).max(4_096),
})

/** The keys of one of `exit.rules`. */
export const RULE_KEYS: readonly string[] = Object.keys(rule.shape)

const schema = z.strictObject({
  network: z
    .strictObject({
      bootstrap: z.array(multiaddr).max(64).default([]),
      allow_private_addresses: z.boolean().default(false),
    })
    .prefault({}),
  client: z
    .strictObject({
      hops: z.number().int().min(1).max(5).default(3),
      proxy: listenAddress.default('127.0.0.1:1080'),
      bind: ip.default('0.0.0.0'),
      exit_countries: z.array(country).max(32).default([]),
      avoid_exit_countries: z.array(country).max(64).default([]),
      websocket: z.enum(['auto', 'always', 'never']).default('auto'),
      websocket_port: z.number().int().min(1).max(65_535).default(443),
    })
    .prefault({}),
  relay: z
    .strictObject({
      listen: listenAddress.default('0.0.0.0:51821'),
      advertise: z.array(address).max(4).default([]),
      control_listen: listenAddress.default('0.0.0.0:51820'),
      control_advertise: z.array(ip).max(4).default([]),
      websocket_listen: z.union([z.literal(''), listenAddress]).default(''),
      operator: z
        .string()
        .regex(/^[^\p{C}]{1,64}$/u, '1 to 64 printable characters')
        .default('anonymous'),
      country: z.union([z.literal(''), country]).default(''),
      family: z.array(nodeId).max(16).default([]),
      capacity_kbit: z.number().int().min(1).max(4_294_967_295).default(10_000),
      price: z.number().min(0).max(1_000_000).default(0),
      free_mib: z.number().int().min(0).max(1_048_576).default(16),
      max_sessions: z.number().int().min(1).max(1_000_000).default(20_000),
      max_flows: z.number().int().min(1).max(1_000_000).default(20_000),
      max_meetings: z.number().int().min(0).max(1_000_000).default(128),
      meeting_kbit: z.number().int().min(64).max(4_294_967_295).default(10_000),
    })
    .prefault({}),
  exit: z
    .strictObject({
      enabled: z.boolean().default(false),
      rules: z.array(rule).max(64).default([]),
      allow_private: z.array(address).max(64).default([]),
      tunnel: z.boolean().default(false),
      tunnel_networks: z
        .array(tunnelNetwork)
        .min(1)
        .max(2)
        .refine(isIpv4WithIpv6, 'a network of IPv4 and at most one of IPv6')
        .default(['10.64.0.0/16', 'fd68:6f70:6c69:7465::/64']),
      dns: z.array(ipv4).max(4).default([]),
      max_streams_per_client: z.number().int().min(1).max(65_536).default(1_024),
    })
    .prefault({}),
  credit: z
    .strictObject({
      issuer: z
        .string()
        .refine(text => text === '' || isWebAddress(text), 'an address like https://issuer.example')
        .default(''),
      issuer_id: z
        .string()
        .regex(/^([0-9a-f]{64})?$/, 'an issuer id of 64 hex digits')
        .default(''),
      issuer_access: z.enum(['route', 'direct']).default('route'),
      spend_limit: z.number().int().min(0).max(1_000_000_000).default(0),
    })
    .prefault({}),
  issuer: z
    .strictObject({
      name: z
        .string()
        .regex(/^[!-~]{1,255}$/, '1 to 255 ASCII characters without spaces')
        .default('issuer'),
      listen: listenAddress.default('127.0.0.1:8480'),
      database: z
        .string()
        .regex(/^(postgres(ql)?:\/\/.+)?$/, 'an address like postgres://user@host/database, or nothing for SQLite')
        .default(''),
      monero_wallet_rpc: z
        .string()
        .refine(text => text === '' || isWebAddress(text), 'an address like http://127.0.0.1:18083')
        .default(''),
      monero_confirmations: z.number().int().min(1).max(720).default(10),
      order_minutes: z.number().int().min(10).max(10_080).default(120),
    })
    .prefault({}),
  meet: z
    .strictObject({
      name: z
        .string()
        .refine(text => text === '' || isDeviceName(text), 'a name of 1 to 32 of a-z, 0-9 and -')
        .default(''),
      gossip: z.boolean().default(true),
      rendezvous: z
        .array(z.string().regex(/^wss?:\/\/[^\s]{1,200}$/, 'a URL like wss://rendezvous.example.org'))
        .max(4)
        .default([]),
      by_hand: z.boolean().default(false),
      folder: z.string().max(4_096).default(''),
      always: z.boolean().default(false),
      interval_ms: z.number().int().min(20).max(600_000).default(4_000),
      bucket_bits: z.number().int().min(0).max(6).default(0),
      work_bits: z.number().int().min(0).max(24).default(16),
      tunnel: z.boolean().default(true),
      interface: z.boolean().default(true),
      udp_port: z.number().int().min(0).max(65_535).default(0),
      map_port: z.boolean().default(true),
      stun: z.array(address).max(4).default([]),
      turn: z.array(turnServer).max(2).default([]),
      allow: z.array(deviceRule).max(64).default([]),
      offer: z.array(offered).max(15).default([]),
      exit: z.boolean().default(false),
      accept: z.array(acceptedNetwork).max(64).default([]),
      listen: listenAddress.default('0.0.0.0:51822'),
      dns: z
        .string()
        .refine(text => text === '' || parseAddress(text.replace(/:0$/, ':1')) !== undefined, 'an address to listen on')
        .default(''),
    })
    .prefault({}),
  peer: z
    .strictObject({
      enabled: z.boolean().default(false),
      rate_kbit: z.number().int().min(64).max(4_294_967_295).default(20_000),
      volume_mib_per_day: z.number().int().min(1).max(4_294_967_295).default(10_240),
      max_clients: z.number().int().min(1).max(100_000).default(16),
      hours: z.string().refine(isHours, 'whole hours of the day like "22-6", or "" for all').default(''),
      allow_private: z.array(address).max(64).default([]),
    })
    .prefault({}),
  api: z.strictObject({ listen: loopbackAddress.default('127.0.0.1:0') }).prefault({}),
  metrics: z.strictObject({ listen: listenAddress.or(z.literal('')).default('') }).prefault({}),
  engine: z
    .strictObject({ kind: z.enum(['auto', 'linux', 'portable']).default('auto'), warm_up: z.boolean().default(true) })
    .prefault({}),
  log: z
    .strictObject({
      level: z.enum(['error', 'warn', 'info', 'debug']).default('info'),
      file_mib: z.number().int().min(1).max(1_024).default(8),
      file_days: z.number().int().min(1).max(366).default(7),
      files: z.number().int().min(1).max(50).default(4),
    })
    .prefault({}),
  lab: z.strictObject({ observe: z.boolean().default(false) }).prefault({}),
})

export type Config = z.infer<typeof schema>

/** Every key of the file as `section.key`, with its default. */
export function configKeys(): Map<string, unknown> {
  const keys = new Map<string, unknown>()
  for (const [section, values] of Object.entries(defaultConfig())) {
    for (const [key, value] of Object.entries(values)) keys.set(`${section}.${key}`, value)
  }
  return keys
}

export function defaultConfig(): Config {
  return schema.parse({})
}

/** What the file must be, as JSON Schema: for forms. Rules on addresses and names are not in it. */
export function configJsonSchema(): unknown {
  return z.toJSONSchema(schema, { io: 'input' })
}

/** What is wrong with the values of a file, as `section.key` and a sentence; none when they are right. */
export function configProblems(values: unknown): { readonly key: string; readonly message: string }[] {
  const result = schema.safeParse(values)
  if (result.success) return []
  return result.error.issues.slice(0, MAX_PROBLEMS).map(issue => ({
    key: issue.path.slice(0, 2).join('.'),
    message: describe(issue, values)
      .join('; ')
      .replace(/^[^ ]*: found/, 'found'),
  }))
}

/** Reads a file; the defaults when `path` is undefined. Throws CONFIG_UNREADABLE or CONFIG_INVALID. */
export function loadConfig(path: string | undefined): Config {
  if (path === undefined) return defaultConfig()
  let text: string
  try {
    const found = statSync(path)
    if (!found.isFile()) throw new Error('it is not a file')
    if (found.size > MAX_FILE_BYTES) throw new Error(`it has ${found.size} bytes, at most ${MAX_FILE_BYTES} are read`)
    text = new TextDecoder('utf-8', { fatal: true }).decode(readFileSync(path))
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new HopliteError(
      'CONFIG_UNREADABLE',
      `read ${path}: ${code === undefined || code === 'ERR_ENCODING_INVALID_ENCODED_DATA' ? message : code}`,
      'check the path and that it is a text file',
      error,
    )
  }
  return parseConfig(text, path)
}

/** Reads the text of a file; `name` is for messages. Throws CONFIG_INVALID. */
export function parseConfig(text: string, name: string): Config {
  let values: unknown
  try {
    values = parse(text)
  } catch (error) {
    const where = error instanceof TomlError ? `, line ${error.line}` : ''
    const what = (error as Error).message.split('\n')[0]
    throw new HopliteError(
      'CONFIG_INVALID',
      `read ${name}${where}: ${what}`,
      'mend the line; docs/configuration.md shows the form',
      error,
    )
  }
  const result = schema.safeParse(values)
  if (result.success) return result.data
  throw invalid(
    name,
    result.error.issues.flatMap(issue => describe(issue, values)),
  )
}

/** The configuration with what flags say in place of its own. Throws CONFIG_INVALID. */
export function withFlags(
  config: Config,
  flags: {
    readonly hops?: number | undefined
    readonly proxy?: string | undefined
    readonly exit?: boolean | undefined
    readonly tunnel?: boolean | undefined
    readonly spendLimit?: number | undefined
    /** Two letters each, in either case. */
    readonly country?: readonly string[] | undefined
    readonly avoidCountry?: readonly string[] | undefined
  },
): Config {
  const { client, exit, credit } = config
  const changed = {
    ...config,
    client: {
      ...client,
      hops: flags.hops ?? client.hops,
      proxy: flags.proxy ?? client.proxy,
      exit_countries: flags.country?.map(text => text.toUpperCase()) ?? client.exit_countries,
      avoid_exit_countries: flags.avoidCountry?.map(text => text.toUpperCase()) ?? client.avoid_exit_countries,
    },
    exit: { ...exit, enabled: flags.exit ?? exit.enabled, tunnel: flags.tunnel ?? exit.tunnel },
    credit: { ...credit, spend_limit: flags.spendLimit ?? credit.spend_limit },
  }
  const result = schema.safeParse(changed)
  if (result.success) return result.data
  throw invalid(
    'the command line',
    result.error.issues.flatMap(issue => describe(issue, changed)),
  )
}

function invalid(name: string, problems: readonly string[]): HopliteError {
  const told = problems.slice(0, MAX_PROBLEMS)
  if (problems.length > MAX_PROBLEMS) told.push(`and ${problems.length - MAX_PROBLEMS} more`)
  return new HopliteError('CONFIG_INVALID', `read ${name}: ${told.join('; ')}`, 'docs/configuration.md has every key')
}

function describe(issue: z.core.$ZodIssue, values: unknown): string[] {
  const path = issue.path.join('.')
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map(key => {
      const full = path === '' ? key : `${path}.${key}`
      const nearest = nearestKey(full)
      return `unknown key "${clip(full)}"${nearest === undefined ? '' : `, did you mean "${nearest}"?`}`
    })
  }
  const found = issue.path.reduce<unknown>(
    (value, key) => (value as Record<PropertyKey, unknown> | undefined)?.[key],
    values,
  )
  const expected =
    issue.code === 'custom' || issue.code === 'invalid_format'
      ? `expected ${issue.message}`
      : issue.message.replace(/^(Invalid \w+|Too \w+): /, '')
  return [`${path}: found ${clip(JSON.stringify(found) ?? 'nothing')}, ${expected}`]
}

function nearestKey(key: string): string | undefined {
  if (key.length > MAX_KEY) return undefined
  const inRule = /^exit\.rules\.[0-9]+\./.exec(key)?.[0]
  const known =
    inRule === undefined
      ? [...configKeys().keys(), ...Object.keys(defaultConfig())]
      : RULE_KEYS.map(name => `${inRule}${name}`)
  const far = (name: string) => (leafOf(name) === leafOf(key) ? 1 : distance(key, name))
  const [best] = known.map(name => ({ name, far: far(name) })).toSorted((a, b) => a.far - b.far)
  return best !== undefined && best.far <= Math.max(2, leafOf(key).length / 2) ? best.name : undefined
}

/** The key without its section: a right key in the wrong section is near. */
function leafOf(key: string): string {
  return key.slice(key.lastIndexOf('.') + 1)
}

function clip(text: string): string {
  return text.length > 60 ? `${text.slice(0, 60)}…` : text
}

function isWebAddress(text: string): boolean {
  return /^https?:\/\//.test(text) && URL.canParse(text)
}

/** The hours of `peer.hours`: undefined for all of them, and for what is none. */
export function parseHours(text: string): Hours | undefined {
  const [, from, to] = /^([01]?[0-9]|2[0-3])-([01]?[0-9]|2[0-4])$/.exec(text) ?? []
  return from === undefined || Number(from) === Number(to) ? undefined : { from: Number(from), to: Number(to) }
}

function isHours(text: string): boolean {
  return text === '' || parseHours(text) !== undefined
}

function isNetwork(text: string): boolean {
  const match = /^([^/]+)\/([0-9]{1,3})$/.exec(text)
  const parsed = match && parseIp(match[1] ?? '')
  return parsed ? Number(match[2]) <= parsed.length * 8 : false
}

function isShareable(text: string): boolean {
  return readShareable(text, parsePrefix(DEVICE_NETWORK) as IpPrefix) !== undefined
}

function isTunnelNetwork(text: string): boolean {
  if (!isNetwork(text)) return false
  const bits = Number(text.split('/')[1])
  return text.includes(':') ? bits >= 64 && bits <= 120 : bits >= 16 && bits <= 29
}

function isIpv4WithIpv6(networks: readonly string[]): boolean {
  const isIpv6 = networks.map(text => text.includes(':'))
  return isIpv6.includes(false) && new Set(isIpv6).size === networks.length
}
