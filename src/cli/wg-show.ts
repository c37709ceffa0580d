// A WireGuard interface in the words of wg(8), as `wg show NAME` prints it. Names, order, units and colours are
// those of wg, byte for byte, so that what reads its output reads ours.

import type { DeviceSnapshot, PeerSnapshot } from '#platform/uapi-server.ts'

/** An interface, its name, and the public key that belongs to its private one. */
export interface ShownDevice extends DeviceSnapshot {
  readonly name: string
  readonly publicKey?: Uint8Array
}

/** The text of `wg show NAME`, private keys hidden; `now` is Unix time in ms. */
export function formatWgShow(device: ShownDevice, now: number, isColored: boolean): string {
  const paint = painter(isColored)
  const lines = [`${paint(RESET)}${paint(GREEN + BOLD, 'interface')}: ${paint(GREEN, device.name)}`]
  const add = (name: string, value: string) => lines.push(`  ${paint(BOLD, name)}: ${value}`)
  if (device.publicKey !== undefined) add('public key', base64(device.publicKey))
  if (device.privateKey !== undefined) add('private key', '(hidden)')
  if (device.listenPort !== 0) add('listening port', `${device.listenPort}`)
  if (device.fwmark !== 0) add('fwmark', `0x${device.fwmark.toString(16)}`)
  for (const peer of device.peers.toSorted(byHandshake)) {
    lines.push('', `${paint(YELLOW + BOLD, 'peer')}: ${paint(YELLOW, base64(peer.publicKey))}`)
    if (peer.presharedKey !== undefined) add('preshared key', '(hidden)')
    if (peer.endpoint !== undefined) add('endpoint', endpoint(peer))
    const ips = peer.allowedIps.map(({ address, prefix }) => `${address}${paint(CYAN, '/')}${prefix}`)
    add('allowed ips', ips.join(', ') || '(none)')
    const then = seconds(peer.lastHandshakeUnixMs)
    if (then !== 0) add('latest handshake', ago(seconds(now) - then, paint))
    if (peer.rxBytes !== 0 || peer.txBytes !== 0)
      add('transfer', `${amount(peer.rxBytes, paint)} received, ${amount(peer.txBytes, paint)} sent`)
    if (peer.persistentKeepaliveSeconds !== 0)
      add('persistent keepalive', `every ${duration(peer.persistentKeepaliveSeconds, paint)}`)
  }
  return `${lines.join('\n')}\n`
}

/** Whether to print colours: on a terminal, unless NO_COLOR is set to anything (https://no-color.org). */
export function wantsColor(stream: { readonly isTTY?: boolean }, env: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && (env['NO_COLOR'] ?? '') === ''
}

const RESET = '\x1b[0m'
const BOLD = '\x1b[1m'
const RED = '\x1b[31m'
const GREEN = '\x1b[32m'
const YELLOW = '\x1b[33m'
const CYAN = '\x1b[36m'

/** Paints a text; a code without a text stands alone. */
type Paint = (codes: string, text?: string) => string

function painter(isColored: boolean): Paint {
  return isColored
    ? (codes, text) => (text === undefined ? codes : `${codes}${text}${RESET}`)
    : (_codes, text) => text ?? ''
}

/** The latest first, and those without any last. */
function byHandshake(a: PeerSnapshot, b: PeerSnapshot): number {
  return b.lastHandshakeUnixMs - a.lastHandshakeUnixMs
}

function ago(elapsed: number, paint: Paint): string {
  if (elapsed === 0) return 'Now'
  if (elapsed < 0) return `(${paint(RED, 'System clock wound backward; connection problems may ensue.')})`
  return `${duration(elapsed, paint)} ago`
}

const UNITS = [
  ['year', 365 * 24 * 60 * 60],
  ['day', 24 * 60 * 60],
  ['hour', 60 * 60],
  ['minute', 60],
  ['second', 1],
] as const

function duration(left: number, paint: Paint): string {
  const parts: string[] = []
  for (const [unit, length] of UNITS) {
    const count = Math.floor(left / length)
    left %= length
    if (count > 0) parts.push(`${count} ${paint(CYAN, count === 1 ? unit : `${unit}s`)}`)
  }
  return parts.join(', ')
}

function amount(bytes: number, paint: Paint): string {
  if (bytes < 1024) return `${bytes} ${paint(CYAN, 'B')}`
  const power = Math.min(4, Math.floor(Math.log2(bytes) / 10))
  return `${hundredths(bytes, power)} ${paint(CYAN, ['', 'KiB', 'MiB', 'GiB', 'TiB'][power] ?? '')}`
}

/** Two decimals, rounded half to even like C's printf does; toFixed rounds half up. */
function hundredths(bytes: number, power: number): string {
  const unit = 1024n ** BigInt(power)
  const scaled = BigInt(bytes) * 100n
  const rest = (scaled % unit) * 2n
  let value = scaled / unit
  if (rest > unit || (rest === unit && value % 2n === 1n)) value++
  return `${value / 100n}.${`${value % 100n}`.padStart(2, '0')}`
}

function endpoint({ endpoint }: PeerSnapshot): string {
  if (endpoint === undefined) return ''
  return endpoint.host.includes(':') ? `[${endpoint.host}]:${endpoint.port}` : `${endpoint.host}:${endpoint.port}`
}

function seconds(unixMs: number): number {
  return Math.floor(unixMs / 1000)
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('base64')
}
