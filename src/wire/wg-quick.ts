// Configuration files of wg-quick, as VPN providers and apps give them out. The grammar and its sources: docs/spec/wg-quick.md.
//
//   [Interface]   PrivateKey ListenPort FwMark Address* DNS* MTU Table SaveConfig PreUp* PostUp* PreDown* PostDown*
//   [Peer]*       PublicKey PresharedKey AllowedIPs* Endpoint PersistentKeepalive           (* may be repeated)
//
// Length policy: at most 64 KiB and 1,000 peers. Unlike wg-quick, nothing is carried out: shell commands are only listed.
// An error names the line and what was expected there, and never has a word of the file in it: the file is full of keys.

import type { Secret } from '#bytes/secret.ts'
import { formatAddress } from './address.ts'
import type { Target } from './control.ts'
import { formatPrefix, type IpPrefix } from './ip-prefix.ts'
import { FOREIGN_KEYS, FOREIGN_SECTIONS } from './wg-quick-foreign.ts'
import { WG_QUICK_RULES, WgQuickDraft, type WgQuickRule } from './wg-quick-keys.ts'
import type { RoutingTable } from './wg-quick-values.ts'
import { formatKey } from './wireguard-key.ts'

export const MAX_WG_QUICK_BYTES = 64 * 1024

export interface WgQuickConfig {
  readonly interface: WgQuickInterface
  readonly peers: readonly WgQuickPeer[]
  /** Shell commands, in the order of the file. They are never run. */
  readonly hooks: readonly WgQuickHook[]
  /** What was passed over or changed, and where. */
  readonly notes: readonly WgQuickRemark[]
}

export interface WgQuickInterface {
  /** Absent where a hook is meant to set it. */
  readonly privateKey?: Secret
  /** 0: any. */
  readonly listenPort: number
  /** 0: none. */
  readonly fwmark: number
  /** Addresses of the interface, with their networks. */
  readonly addresses: readonly IpPrefix[]
  readonly dnsServers: readonly string[]
  readonly dnsSearch: readonly string[]
  readonly mtu?: number
  readonly table: RoutingTable
  readonly saveConfig: boolean
}

export interface WgQuickPeer {
  readonly publicKey: Uint8Array
  readonly presharedKey?: Secret
  /** Bits behind the prefix are zero. */
  readonly allowedIps: readonly IpPrefix[]
  readonly endpoint?: Target
  /** 0: off. */
  readonly persistentKeepaliveSeconds: number
}

export interface WgQuickHook {
  readonly when: 'PreUp' | 'PostUp' | 'PreDown' | 'PostDown'
  readonly command: string
}

/** Something to say about a line; lines count from 1. */
export interface WgQuickRemark {
  readonly line: number
  readonly text: string
}

/** Reads a configuration file; `error` says what is wrong with which line, in words of ours alone. */
export function parseWgQuick(file: Uint8Array): WgQuickConfig | { readonly error: WgQuickRemark } {
  if (file.length > MAX_WG_QUICK_BYTES) return { error: { line: 1, text: 'the file is longer than 64 KiB' } }
  if ((file[0] === 0xff && file[1] === 0xfe) || (file[0] === 0xfe && file[1] === 0xff))
    return { error: { line: 1, text: 'the file is UTF-16: expected UTF-8' } }
  const draft = new WgQuickDraft()
  const lines = new TextDecoder().decode(file).split(/\r\n|\n|\r/)
  for (const [index, line] of lines.entries()) {
    draft.line = index + 1
    const text = readLine(draft, line)
    if (text !== undefined) return { error: { line: draft.line, text } }
  }
  const text = draft.closePeer() ?? (draft.hasInterface ? undefined : 'the file ends: expected [Interface]')
  return text === undefined ? draft.done() : { error: { line: draft.peerLine || lines.length, text } }
}

/** Prints a configuration, keys included, so that it reads back as the same one. Notes are left out. */
export function formatWgQuick(config: Omit<WgQuickConfig, 'notes'>): string {
  const { interface: device, peers, hooks } = config
  const lines = ['[Interface]']
  const add = (key: string, value: string | number | undefined) => {
    if (value === undefined || value === '' || value === 0) return
    if (/[\r\n#\0]/.test(String(value))) throw new TypeError(`print ${key}: it would not read back`)
    lines.push(`${key} = ${value}`)
  }
  add('PrivateKey', device.privateKey && formatKey(device.privateKey.bytes))
  add('ListenPort', device.listenPort)
  add('FwMark', device.fwmark && `0x${device.fwmark.toString(16)}`)
  add('Address', device.addresses.map(formatPrefix).join(', '))
  add('DNS', [...device.dnsServers, ...device.dnsSearch].join(', '))
  add('MTU', device.mtu)
  add('Table', formatTable(device.table))
  add('SaveConfig', device.saveConfig ? 'true' : undefined)
  for (const { when, command } of hooks) add(when, command)
  for (const peer of peers) {
    lines.push('', '[Peer]')
    add('PublicKey', formatKey(peer.publicKey))
    add('PresharedKey', peer.presharedKey && formatKey(peer.presharedKey.bytes))
    add('AllowedIPs', peer.allowedIps.map(formatPrefix).join(', '))
    add('Endpoint', peer.endpoint && formatAddress(peer.endpoint))
    add('PersistentKeepalive', peer.persistentKeepaliveSeconds)
  }
  return `${lines.join('\n')}\n`
}

/** Takes one line; the result is what is wrong with it. */
function readLine(draft: WgQuickDraft, line: string): string | undefined {
  if (line.includes('\0')) return 'a NUL: expected text in UTF-8'
  const text = (line.split('#', 1)[0] ?? '').trim()
  if (text === '' || text.startsWith(';')) return undefined
  if (text.startsWith('[')) return readSection(draft, text.replace(/\s+/g, '').toLowerCase())
  if (draft.section === 'foreign') return undefined
  if (draft.section === undefined) return 'something before the first section: expected [Interface]'
  const equals = text.indexOf('=')
  if (equals < 0) return 'a line without "=": expected Key = value'
  const key = text.slice(0, equals).replace(/\s+/g, '').toLowerCase()
  const value = text.slice(equals + 1).trim()
  const rule = WG_QUICK_RULES[draft.section].get(key)
  return rule === undefined ? readForeign(draft, draft.section, key, value) : readValue(draft, rule, value)
}

function readSection(draft: WgQuickDraft, header: string): string | undefined {
  if (header === '[interface]') return draft.open('Interface')
  if (header === '[peer]') return draft.open('Peer')
  const name = FOREIGN_SECTIONS.get(header)
  if (name === undefined) return 'an unknown section: expected [Interface] or [Peer]'
  draft.note(`[${name}] is not of WireGuard: passed over`)
  return draft.open('foreign')
}

function readForeign(
  draft: WgQuickDraft,
  section: 'Interface' | 'Peer',
  key: string,
  value: string,
): string | undefined {
  const other = section === 'Interface' ? 'Peer' : 'Interface'
  const misplaced = WG_QUICK_RULES[other].get(key)
  if (misplaced !== undefined) return `${misplaced.name} in [${section}]: expected in [${other}]`
  const foreign = FOREIGN_KEYS.get(key)
  if (foreign === undefined) {
    const names = [...WG_QUICK_RULES[section].values()].map(({ name }) => name)
    return `an unknown key in [${section}]: expected ${names.join(', ')}`
  }
  if (foreign.only !== undefined && value !== foreign.only)
    return `${foreign.name} changes the packets: expected ${foreign.only}, which is plain WireGuard`
  draft.note(`${foreign.name} is not of WireGuard: passed over`)
  return undefined
}

function readValue(
  draft: WgQuickDraft,
  { name, expected, isList, read }: WgQuickRule,
  value: string,
): string | undefined {
  if (value === '' && (isList || name === 'MTU' || name === 'Table')) {
    draft.note(`${name} is empty: passed over`)
    return undefined
  }
  if (!isList) {
    if (draft.given.has(name)) draft.note(`${name} stands there again: the last counts`)
    draft.given.add(name)
  }
  return read(draft, value) ? undefined : `${name} is ${value === '' ? 'empty' : 'malformed'}: expected ${expected}`
}

function formatTable(which: RoutingTable): string | number | undefined {
  switch (which.kind) {
    case 'auto':
      return undefined
    case 'off':
      return 'off'
    case 'number':
      return which.number
    case 'name':
      return which.name
  }
}
