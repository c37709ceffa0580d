// What `hoplite entry` is asked for: a tunnel from a wg-quick file, or an endpoint for a WireGuard client of one's own.

import { lookup } from 'node:dns/promises'
import { readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { isUsableX25519, x25519FromPrivate } from '#crypto/x25519.ts'
import { hasHelper } from '#platform/linux/helper/helper-channel.ts'
import type { ClientOrder } from '#platform/linux/helper/helper-order.ts'
import { type Address, parseIp } from '#wire/address.ts'
import type { Target } from '#wire/control.ts'
import { formatWgQuick, MAX_WG_QUICK_BYTES, parseWgQuick, type WgQuickConfig } from '#wire/wg-quick.ts'
import { parseListen } from '../listen.ts'
import type { EntryWish } from '../parts/part-order.ts'

/** Peers between the client and a WireGuard server. */
export type PeerCount = 1 | 2

export type EntryPlan =
  | {
      readonly kind: 'tunnel'
      readonly peers: PeerCount
      /** The interface's name. */
      readonly name: string
      readonly file: WgQuickConfig
      readonly runsHooks: boolean
      readonly killSwitch: boolean
    }
  | { readonly kind: 'listen'; readonly peers: PeerCount; readonly listen: Address; readonly to: Target }

/** Bytes that each hop adds: a transport header, its tag, and a frame header. */
const HOP_OVERHEAD = 36
/** Bytes that WireGuard adds: a transport header and its tag. */
const WIREGUARD_OVERHEAD = 32
const UDP_OVERHEAD = { 4: 28, 6: 48 } as const
/** WireGuard makes the length of a packet a multiple of this; a server with a longer MTU than ours does so beyond ours. */
const WIREGUARD_PADDING = 16
/** No link of IPv6 takes less; below it we let the network fragment. */
const MIN_MTU = 1_280
/** What the internet carries, and the peers, however long the packets of the first link may be. */
const MAX_LINK_MTU = 1_500

/** The interface of a tunnel whose file has no name. */
const NAMELESS = 'hoplite-vpn'

/** Reads a wg-quick file. Throws ENTRY_FILE_INVALID, whose words hold nothing of the file's. */
export function readEntryFile(file: string): { readonly name: string; readonly config: WgQuickConfig } {
  return { name: interfaceName(file), config: readEntryText(readBytes(file), file) }
}

/** Reads the text of a wg-quick file, which is called `file`. Throws ENTRY_FILE_INVALID, as above. */
export function readEntryText(bytes: Uint8Array, file = 'the file'): WgQuickConfig {
  const config = parsed(file, bytes)
  const invalid = (what: string, advice: string) =>
    new HopliteError('ENTRY_FILE_INVALID', `read ${file}: ${what}`, advice)
  if (config.interface.privateKey === undefined)
    throw invalid('[Interface] has no PrivateKey', 'add the line; a hook that sets it is not run')
  if (!config.peers.some(({ endpoint }) => endpoint !== undefined))
    throw invalid('no [Peer] has an Endpoint', 'a tunnel that only waits for others needs no entry')
  if (config.interface.addresses.length === 0)
    throw invalid('[Interface] has no Address', "add the one that the tunnel's server knows")
  const own = x25519FromPrivate(config.interface.privateKey.bytes).publicKey
  for (const { publicKey } of config.peers) {
    if (Buffer.compare(publicKey, own) === 0)
      throw invalid('a [Peer] has the PublicKey of [Interface] itself', "take the server's")
    if (!isUsableX25519(publicKey))
      throw invalid('a [Peer] has a PublicKey that is no key', 'take the one that the server has')
  }
  return config
}

/** What is asked for with the text of a file: its commands are never run. Throws ENTRY_FILE_INVALID. */
export function planFromText(wish: EntryWish): EntryPlan {
  const file = readEntryText(Buffer.from(wish.file))
  const { peers } = wish
  if (wish.form === 'tunnel')
    return { kind: 'tunnel', peers, name: NAMELESS, file, runsHooks: false, killSwitch: wish.killSwitch }
  return { kind: 'listen', peers, listen: parseListen(wish.listen), to: onlyServer(file) }
}

/** The file, changed so that its tunnel goes to an entry that listens on `listen`. Throws ENTRY_FILE_INVALID. */
export function fileForEntry(text: string, listen: Address, mtu: number): string {
  const file = readEntryText(Buffer.from(text))
  onlyServer(file)
  const peers = file.peers.map(peer => (peer.endpoint === undefined ? peer : { ...peer, endpoint: listen }))
  const own = Math.min(mtu, file.interface.mtu ?? mtu)
  return formatWgQuick({ ...file, interface: { ...file.interface, mtu: own }, peers })
}

/** An entry that listens cannot tell for which of several servers a datagram is. */
function onlyServer({ peers }: WgQuickConfig): Target {
  const [first, ...others] = peers.flatMap(({ endpoint }) => endpoint ?? [])
  if (first !== undefined && others.length === 0) return first
  throw new HopliteError(
    'ENTRY_FILE_INVALID',
    `read the file: it has ${others.length + 1} servers`,
    'here one at a time can be reached: leave the other [Peer] sections out',
  )
}

/** What changes the machine is told of a tunnel. */
export function entryOrder({ name, file, killSwitch }: Extract<EntryPlan, { kind: 'tunnel' }>): ClientOrder {
  const words = ({ address, prefix }: { readonly address: string; readonly prefix: number }) => `${address}/${prefix}`
  const { addresses, dnsServers, dnsSearch, table } = file.interface
  return {
    kind: 'client',
    name,
    addresses: addresses.map(words),
    dnsServers,
    dnsSearch,
    routes: table.kind === 'off' ? [] : file.peers.flatMap(({ allowedIps }) => allowedIps.map(words)),
    killSwitch,
    lan: [],
    split: {},
  }
}

/** The IP address of a server. A name is asked of this machine's resolver, in the open. Throws NAME_NOT_FOUND. */
export async function resolveServer({ host, port }: Target): Promise<Address> {
  if (parseIp(host) !== undefined) return { host, port }
  try {
    const { address } = await lookup(host, { verbatim: false })
    return { host: address, port }
  } catch (error) {
    throw new HopliteError(
      'NAME_NOT_FOUND',
      // Not the name: what is said here stands in the log.
      `look up the name of the WireGuard server: ${(error as NodeJS.ErrnoException).code}`,
      "check the network; after a crash the tunnel's firewall may still stand: hoplite recover",
      error,
    )
  }
}

/**
 * The longest packet of a tunnel, in bytes, that fits a link of `linkMtu` bytes after WireGuard's padding and every hop's and
 * WireGuard's own layer, when the packets to the first peer are of IPv4 or IPv6. A multiple of 16.
 */
export function tunnelMtu(linkMtu: number, peers: PeerCount, family: 4 | 6): number {
  const link = Math.min(linkMtu, MAX_LINK_MTU)
  const inner = link - UDP_OVERHEAD[family] - peers * HOP_OVERHEAD - WIREGUARD_OVERHEAD
  return Math.max(MIN_MTU, inner - (inner % WIREGUARD_PADDING))
}

function readBytes(file: string): Uint8Array {
  try {
    // The helper has read what only root may read, and gives it to us.
    if (hasHelper()) return readFileSync(0)
    const found = statSync(file)
    if (!found.isFile()) throw new Error('it is not a file')
    if (found.size > MAX_WG_QUICK_BYTES) throw new Error('it is longer than 64 KiB')
    return readFileSync(file)
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException
    throw new HopliteError('ENTRY_FILE_INVALID', `read ${file}: ${code ?? message}`, 'check the path', error)
  }
}

function parsed(file: string, bytes: Uint8Array): WgQuickConfig {
  const config = parseWgQuick(bytes)
  if (!('error' in config)) return config
  const { line, text } = config.error
  throw new HopliteError('ENTRY_FILE_INVALID', `read ${file}, line ${line}: ${text}`, 'mend the line')
}

/** The file's name without its ending, as wg-quick does it, as far as it can name an interface. */
function interfaceName(file: string): string {
  const name = path
    .basename(file, '.conf')
    .replace(/[^A-Za-z0-9_-]/g, '-')
    .slice(0, 15)
  return /[A-Za-z0-9]/.test(name) ? name : 'hoplite0'
}
