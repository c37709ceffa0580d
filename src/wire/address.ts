// A transport address (IP and UDP or TCP port) as it stands in our messages.
//
//   offset size  field
//   0      1     family: 4 or 6
//   1      4/16  IP address, network order
//   +      2     port, little-endian, 1 to 65535
//
// Length policy: exact, 7 or 19 bytes. IPv4-mapped IPv6 addresses are refused: they are a second way to write an IPv4 one.

import type { Reader } from '#bytes/reader.ts'
import type { Writer } from '#bytes/writer.ts'

/** An IP address in its canonical text form, and a port. */
export interface Address {
  readonly host: string
  readonly port: number
}

export const MAX_ADDRESS_BYTES = 19

/** Reads an address; `undefined` (and a failed reader) when it is malformed. */
export function readAddress(reader: Reader): Address | undefined {
  const family = reader.u8()
  const ip = family === 4 ? reader.bytes(4) : family === 6 ? reader.bytes(16) : undefined
  if (ip === undefined) reader.fail()
  const port = reader.u16le()
  if (port === 0) reader.fail()
  if (reader.failed || ip === undefined) return undefined
  const host = family === 4 ? ip.join('.') : formatIPv6(ip)
  if (host === undefined) {
    reader.fail()
    return undefined
  }
  return { host, port }
}

/** Writes an address; `host` must be an IP address in text form. */
export function writeAddress(writer: Writer, address: Address): void {
  const ip = parseIp(address.host)
  if (ip === undefined) throw new TypeError('write an address: the host is not an IP address')
  writer
    .u8(ip.length === 4 ? 4 : 6)
    .bytes(ip)
    .u16le(address.port)
}

/** `host:port`, with brackets around IPv6. */
export function formatAddress(address: Address): string {
  return address.host.includes(':') ? `[${address.host}]:${address.port}` : `${address.host}:${address.port}`
}

/** Reads `1.2.3.4:5` or `[::1]:5`; `undefined` when it is anything else. */
export function parseAddress(text: string): Address | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]{2,45})\]|([0-9.]{7,15})):([0-9]{1,5})$/.exec(text)
  if (match === null) return undefined
  const ip = parseIp(match[1] ?? match[2] ?? '')
  const port = Number(match[3])
  if (ip === undefined || port < 1 || port > 65535 || (match[1] !== undefined) !== (ip.length === 16)) return undefined
  const host = ip.length === 4 ? ip.join('.') : formatIPv6(ip)
  return host === undefined ? undefined : { host, port }
}

/** Whether an address to listen on stands for every address of the machine. */
export function isWildcard(host: string): boolean {
  return host === '0.0.0.0' || host === '::'
}

/** The 4 or 16 bytes of an IP address in text form; `undefined` when it is none. Zones are refused. */
export function parseIp(text: string): Uint8Array | undefined {
  return text.includes(':') ? parseIPv6(text) : parseIPv4(text)
}

function parseIPv4(text: string): Uint8Array | undefined {
  const parts = text.split('.')
  if (parts.length !== 4) return undefined
  const bytes = new Uint8Array(4)
  for (let i = 0; i < 4; i++) {
    const part = parts[i] ?? ''
    if (!/^(0|[1-9][0-9]{0,2})$/.test(part) || Number(part) > 255) return undefined
    bytes[i] = Number(part)
  }
  return bytes
}

function parseIPv6(text: string): Uint8Array | undefined {
  if (text.length > 45) return undefined
  const halves = text.split('::')
  if (halves.length > 2) return undefined
  const head = groups(halves[0] ?? '', halves.length === 1)
  const tail = halves.length === 2 ? groups(halves[1] ?? '', true) : []
  if (head === undefined || tail === undefined) return undefined
  const missing = 16 - head.length - tail.length
  if (halves.length === 1 ? missing !== 0 : missing < 2) return undefined
  return Uint8Array.from([...head, ...new Array<number>(missing).fill(0), ...tail])
}

function groups(text: string, mayEndInIPv4: boolean): number[] | undefined {
  if (text === '') return []
  const bytes: number[] = []
  const parts = text.split(':')
  for (const [i, part] of parts.entries()) {
    if (i === parts.length - 1 && mayEndInIPv4 && part.includes('.')) {
      const ipv4 = parseIPv4(part)
      if (ipv4 === undefined) return undefined
      bytes.push(...ipv4)
    } else {
      if (!/^[0-9a-fA-F]{1,4}$/.test(part)) return undefined
      const value = Number.parseInt(part, 16)
      bytes.push(value >>> 8, value & 0xff)
    }
  }
  return bytes
}

/** RFC 5952 text of 16 bytes; `undefined` for an IPv4-mapped address. */
export function formatIPv6(bytes: Uint8Array): string | undefined {
  const words: number[] = []
  for (let i = 0; i < 16; i += 2) words.push(((bytes[i] ?? 0) << 8) | (bytes[i + 1] ?? 0))
  if (words[5] === 0xffff && words.slice(0, 5).every(word => word === 0)) return undefined
  let best = { at: -1, length: 1 }
  for (let i = 0; i < 8; i++) {
    let length = 0
    while (i + length < 8 && words[i + length] === 0) length++
    if (length > best.length) best = { at: i, length }
  }
  const hex = (part: number[]) => part.map(word => word.toString(16)).join(':')
  if (best.at < 0) return hex(words)
  return `${hex(words.slice(0, best.at))}::${hex(words.slice(best.at + best.length))}`
}
