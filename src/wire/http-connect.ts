// HTTP CONNECT as a proxy's client speaks it (RFC 9110 §9.3.6), and nothing else of HTTP.
//
// The head is at most 8 KiB, its lines end with CR LF, it ends with an empty line, and begins with
// `CONNECT host:port HTTP/1.x`. The only field that is read is Proxy-Authorization (Basic, RFC 7617), which chooses the route
// as a SOCKS password does: one that cannot be read is refused, because ignoring it would undo the isolation it asks for.

import { formatIPv6, parseIp } from './address.ts'
import { isTargetHost, type Target } from './control.ts'

export const MAX_HTTP_HEAD = 8192

export interface Credentials {
  readonly user: Uint8Array
  readonly password: Uint8Array
}

export type ConnectHead =
  | {
      readonly kind: 'connect'
      readonly target: Target
      readonly credentials: Credentials | undefined
      readonly length: number
    }
  | { readonly kind: 'refused'; readonly status: 400 | 405 | 431 }

/** Reads what has come so far; `undefined` means more is needed. */
export function parseConnect(bytes: Uint8Array): ConnectHead | undefined {
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, Math.min(bytes.length, MAX_HTTP_HEAD)).toString('latin1')
  const end = text.indexOf('\r\n\r\n')
  if (end < 0) {
    if (text.length > 0 && !/^[A-Z]{1,16}(?: |$)/.test(text.slice(0, 17))) return { kind: 'refused', status: 400 }
    if (/(?:^|[^\r])\n/.test(text)) return { kind: 'refused', status: 400 }
    return bytes.length >= MAX_HTTP_HEAD ? { kind: 'refused', status: 431 } : undefined
  }
  const [first = '', ...fields] = text.slice(0, end).split('\r\n')
  const line = /^([A-Z]+) (\S+) HTTP\/1\.[01]$/.exec(first)
  if (line === null) return { kind: 'refused', status: 400 }
  if (line[1] !== 'CONNECT') return { kind: 'refused', status: 405 }
  const target = parseAuthority(line[2] ?? '')
  if (target === undefined) return { kind: 'refused', status: 400 }
  let credentials: Credentials | undefined
  for (const field of fields) {
    const match = /^([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*(.*?)[ \t]*$/.exec(field)
    if (match === null) return { kind: 'refused', status: 400 }
    if (match[1]?.toLowerCase() !== 'proxy-authorization') continue
    if (credentials !== undefined) return { kind: 'refused', status: 400 }
    credentials = parseBasic(match[2] ?? '')
    if (credentials === undefined) return { kind: 'refused', status: 400 }
  }
  return { kind: 'connect', target, credentials, length: end + 4 }
}

/** The answer with a status; 200 leaves the connection to the stream, others close it and say `why` (ASCII). */
export function encodeStatus(status: number, why?: string): Uint8Array {
  const reason = REASONS[status] ?? 'Error'
  if (status === 200) return Buffer.from(`HTTP/1.1 200 ${reason}\r\n\r\n`)
  const body =
    status === 405
      ? 'This is a proxy for CONNECT and SOCKS5; plain HTTP requests are not carried.\n'
      : `${why ?? reason}.\n`
  const allow = status === 405 ? 'Allow: CONNECT\r\n' : ''
  return Buffer.from(
    `HTTP/1.1 ${status} ${reason}\r\n${allow}Content-Type: text/plain\r\nContent-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`,
  )
}

const REASONS: Record<number, string> = {
  200: 'Connection established',
  400: 'Bad Request',
  403: 'Forbidden',
  405: 'Method Not Allowed',
  431: 'Request Header Fields Too Large',
  502: 'Bad Gateway',
  503: 'Service Unavailable',
  504: 'Gateway Timeout',
}

function parseBasic(value: string): Credentials | undefined {
  const encoded = /^basic +([A-Za-z0-9+/]+={0,2})$/i.exec(value)?.[1]
  if (encoded === undefined) return undefined
  const bytes = Buffer.from(encoded, 'base64')
  const colon = bytes.indexOf(0x3a)
  return colon < 0 ? undefined : { user: bytes.subarray(0, colon), password: bytes.subarray(colon + 1) }
}

function parseAuthority(text: string): Target | undefined {
  const match = /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]+)):([0-9]{1,5})$/.exec(text)
  if (match === null) return undefined
  const port = Number(match[3])
  const host = (match[1] ?? match[2] ?? '').toLowerCase()
  if (port < 1 || port > 65535 || !isTargetHost(host)) return undefined
  if (match[1] === undefined) return { host, port }
  const ip = parseIp(host)
  if (ip?.length !== 16) return undefined
  return { host: formatIPv6(ip) ?? ip.subarray(12).join('.'), port }
}
