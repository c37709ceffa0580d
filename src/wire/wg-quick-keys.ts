// The keys of a wg-quick configuration: what each takes, and where its value goes in what has been read so far.

import { Secret } from '#bytes/secret.ts'
import { maskPrefix } from './ip-prefix.ts'
import type { WgQuickConfig, WgQuickHook, WgQuickInterface, WgQuickPeer, WgQuickRemark } from './wg-quick.ts'
import {
  readEndpoint,
  readFlag,
  readKeepalive,
  readMark,
  readNumber,
  readPrefixes,
  readResolvers,
  readTable,
} from './wg-quick-values.ts'
import { formatKey, isZeroKey, parseKey } from './wireguard-key.ts'

export const MAX_WG_QUICK_PEERS = 1000

type Open<T> = { -readonly [K in keyof T]: T[K] }
export type WgQuickSection = 'Interface' | 'Peer' | 'foreign'

/** What has been read of a file so far. */
export class WgQuickDraft {
  line = 0
  section: WgQuickSection | undefined
  hasInterface = false
  /** Where the section of `peer` began; 0 outside of one. */
  peerLine = 0
  readonly device: Open<WgQuickInterface> = {
    listenPort: 0,
    fwmark: 0,
    addresses: [],
    dnsServers: [],
    dnsSearch: [],
    table: { kind: 'auto' },
    saveConfig: false,
  }
  peer: Partial<Open<WgQuickPeer>> = {}
  /** Keys of the section that may stand there once. */
  readonly given = new Set<string>()
  readonly #hooks: WgQuickHook[] = []
  readonly #notes: WgQuickRemark[] = []
  readonly #peers = new Map<string, WgQuickPeer>()

  note(text: string): void {
    this.#notes.push({ line: this.line, text })
  }

  addHook(when: WgQuickHook['when'], command: string): void {
    this.#hooks.push({ when, command })
  }

  /** Begins a section; the result is what is wrong with it. */
  open(section: WgQuickSection): string | undefined {
    const problem = this.closePeer()
    if (problem !== undefined) {
      this.line = this.peerLine
      return problem
    }
    if (section === 'Interface' && this.hasInterface) return 'a second [Interface]: expected one'
    if (section === 'Peer' && this.#peers.size === MAX_WG_QUICK_PEERS) return 'another [Peer]: expected at most 1,000'
    this.hasInterface ||= section === 'Interface'
    this.peerLine = section === 'Peer' ? this.line : 0
    this.section = section
    this.peer = {}
    this.given.clear()
    return undefined
  }

  closePeer(): string | undefined {
    if (this.peerLine === 0) return undefined
    const { publicKey, allowedIps = [], persistentKeepaliveSeconds = 0, ...others } = this.peer
    if (publicKey === undefined) return '[Peer] without a PublicKey: expected one'
    const id = formatKey(publicKey)
    if (this.#peers.has(id)) return '[Peer] with the PublicKey of an earlier one: expected each peer once'
    this.#peers.set(id, { publicKey, allowedIps, persistentKeepaliveSeconds, ...others })
    this.peerLine = 0
    return undefined
  }

  done(): WgQuickConfig {
    return { interface: this.device, peers: [...this.#peers.values()], hooks: this.#hooks, notes: this.#notes }
  }
}

/** How one key is read. */
export interface WgQuickRule {
  readonly name: string
  readonly expected: string
  /** Whether lines of this key add up; otherwise the last counts. */
  readonly isList: boolean
  /** Puts the value into the draft; false when it is malformed. */
  readonly read: (draft: WgQuickDraft, value: string) => boolean
}

const KEY = '32 bytes in base64, which are 44 characters'

/** By section, and by name in lower case. */
export const WG_QUICK_RULES: { readonly [S in 'Interface' | 'Peer']: ReadonlyMap<string, WgQuickRule> } = {
  Interface: table([
    rule('PrivateKey', `${KEY}, not all zero`, readSecret, ({ device }, key) => {
      if (key === 'none') return false
      device.privateKey = key
      return true
    }),
    rule(
      'ListenPort',
      '0 to 65535',
      text => readNumber(text, 0, 65_535),
      ({ device }, port) => {
        device.listenPort = port
      },
    ),
    rule('FwMark', 'off, or a number of 32 bits, decimal or 0x', readMark, ({ device }, mark) => {
      device.fwmark = mark
    }),
    list(
      'Address',
      'IP addresses, each with or without /bits',
      text => readPrefixes(text, true),
      ({ device }, found) => {
        device.addresses = [...device.addresses, ...found]
      },
    ),
    list('DNS', 'IP addresses and search domains', readResolvers, ({ device }, { servers, domains }) => {
      device.dnsServers = [...device.dnsServers, ...servers]
      device.dnsSearch = [...device.dnsSearch, ...domains]
    }),
    rule(
      'MTU',
      '576 to 65535',
      text => readNumber(text, 576, 65_535),
      ({ device }, mtu) => {
        device.mtu = mtu
      },
    ),
    rule('Table', 'auto, off, or a routing table', readTable, ({ device }, which) => {
      device.table = which
    }),
    rule('SaveConfig', 'true or false', readFlag, ({ device }, flag) => {
      device.saveConfig = flag
    }),
    ...(['PreUp', 'PostUp', 'PreDown', 'PostDown'] as const).map(when =>
      list(
        when,
        'a command',
        text => text,
        (draft, command) => draft.addHook(when, command),
      ),
    ),
  ]),
  Peer: table([
    rule('PublicKey', `${KEY}, not all zero`, parseKey, ({ peer }, key) => {
      peer.publicKey = key
      return !isZeroKey(key)
    }),
    rule('PresharedKey', KEY, readSecret, ({ peer }, key) => {
      if (key === 'none') delete peer.presharedKey
      else peer.presharedKey = key
    }),
    list(
      'AllowedIPs',
      'IP addresses with /bits and commas',
      text => readPrefixes(text, false),
      (draft, found) => {
        const masked = found.map(maskPrefix)
        if (masked.some(({ address }, i) => address !== found[i]?.address))
          draft.note('AllowedIPs has bits behind its prefix: they are zero now')
        draft.peer.allowedIps = [...(draft.peer.allowedIps ?? []), ...masked]
      },
    ),
    rule('Endpoint', 'IPv4:port, [IPv6]:port or name:port', readEndpoint, ({ peer }, endpoint) => {
      peer.endpoint = endpoint
    }),
    rule('PersistentKeepalive', 'off, or 0 to 65535 seconds', readKeepalive, ({ peer }, seconds) => {
      peer.persistentKeepaliveSeconds = seconds
    }),
  ]),
}

function table(rules: readonly WgQuickRule[]): ReadonlyMap<string, WgQuickRule> {
  return new Map(rules.map(each => [each.name.toLowerCase(), each]))
}

/** A rule from the value's reader and what is done with the value; that returns false when the value will not do. */
function rule<T>(
  name: string,
  expected: string,
  parse: (text: string) => T | undefined,
  put: (draft: WgQuickDraft, value: T) => boolean | void,
  isList = false,
): WgQuickRule {
  const read = (draft: WgQuickDraft, text: string) => {
    const value = parse(text)
    return value !== undefined && put(draft, value) !== false
  }
  return { name, expected, isList, read }
}

function list<T>(
  name: string,
  expected: string,
  parse: (text: string) => T | undefined,
  put: (draft: WgQuickDraft, value: T) => void,
): WgQuickRule {
  return rule(name, expected, parse, put, true)
}

/** A key that is kept secret; 'none' when it is all zero. */
function readSecret(text: string): Secret | 'none' | undefined {
  const key = parseKey(text)
  return key === undefined ? undefined : isZeroKey(key) ? 'none' : new Secret(key)
}
