// Answers DNS questions for the names of paired devices, `laptop.hop`, and back from their addresses. Everything else is
// refused: this is no resolver, and the names of devices are asked of nobody else.

import { parseIp } from '#wire/address.ts'
import {
  DNS_CLASS,
  DNS_TYPE,
  type DnsQuestion,
  type DnsRecord,
  decodeDns,
  decodeDnsHeader,
  encodeDnsAnswer,
  encodeDnsName,
  RCODE,
} from '#wire/dns.ts'
import type { DeviceAddresses } from './device-address.ts'

export const ZONE = 'hop'
/** Short: a device that was removed or renamed should be so soon everywhere. */
const TTL_S = 10
const MAX_QUERY_BYTES = 512

/** The addresses by name, without the zone. */
export type Names = ReadonlyMap<string, DeviceAddresses>

/** The answer to a query; `undefined` when it deserves none. */
export function answerDns(query: Uint8Array, names: Names): Uint8Array | undefined {
  const header = decodeDnsHeader(query)
  // Answering an answer could go on for ever between two servers.
  if (header === undefined || header.isResponse || query.length > MAX_QUERY_BYTES) return undefined
  if (header.opcode !== 0) return failure(query, RCODE.notImplemented)
  const message = decodeDns(query)
  const [question] = message?.questions ?? []
  if (question === undefined || message?.questions.length !== 1) return failure(query, RCODE.formatError)
  const isInternet = question.class === DNS_CLASS.internet || question.class === DNS_CLASS.any
  const found = isInternet ? lookUp(question, names) : undefined
  if (found === undefined) return failure(query, RCODE.refused)
  const { rcode, answers } = found
  const authorities = answers.length === 0 ? [soaOf(question)] : []
  return encodeDnsAnswer({ query, rcode, isAuthoritative: true, answers, authorities })
}

interface Found {
  readonly rcode: number
  readonly answers: readonly DnsRecord[]
}

/** `undefined` for a name that is not ours to answer for. */
function lookUp(question: DnsQuestion, names: Names): Found | undefined {
  const { name, type } = question
  if (name === ZONE) {
    const isAsked = type === DNS_TYPE.soa || type === DNS_TYPE.any
    return { rcode: RCODE.noError, answers: isAsked ? [soaOf(question)] : [] }
  }
  const host = name.endsWith(`.${ZONE}`) ? name.slice(0, -ZONE.length - 1) : undefined
  if (host === undefined) return lookUpAddress(question, names)
  const addresses = names.get(host)
  if (addresses === undefined) return { rcode: RCODE.nameError, answers: [] }
  const record = (kind: number, text: string | undefined) => {
    const data = text === undefined ? undefined : parseIp(text)
    if (data === undefined || (type !== kind && type !== DNS_TYPE.any)) return []
    return [{ name, type: kind, class: DNS_CLASS.internet, ttl: TTL_S, data }]
  }
  return {
    rcode: RCODE.noError,
    answers: [...record(DNS_TYPE.aaaa, addresses.ipv6), ...record(DNS_TYPE.a, addresses.ipv4)],
  }
}

function lookUpAddress({ name, type }: DnsQuestion, names: Names): Found | undefined {
  if (!name.endsWith('.arpa')) return undefined
  for (const [host, { ipv4, ipv6 }] of names) {
    if (reverseName(ipv6) !== name && (ipv4 === undefined || reverseName(ipv4) !== name)) continue
    const isAsked = type === DNS_TYPE.ptr || type === DNS_TYPE.any
    const data = encodeDnsName(`${host}.${ZONE}`)
    const record = { name, type: DNS_TYPE.ptr, class: DNS_CLASS.internet, ttl: TTL_S, data }
    return { rcode: RCODE.noError, answers: isAsked ? [record] : [] }
  }
  return undefined
}

/** The name under which an address is looked up (RFC 1035 §3.5, RFC 3596 §2.5). */
function reverseName(address: string): string {
  const ip = parseIp(address) ?? new Uint8Array(0)
  if (ip.length === 4) return `${ip.toReversed().join('.')}.in-addr.arpa`
  const digits = Buffer.from(ip).toString('hex').split('').toReversed()
  return `${digits.join('.')}.ip6.arpa`
}

/** Says how long it is known that there is no such thing (RFC 2308 §3). */
function soaOf({ name }: DnsQuestion): DnsRecord {
  const zone = name === ZONE || name.endsWith(`.${ZONE}`) ? ZONE : name
  const numbers = Buffer.alloc(20)
  for (const [i, value] of [1, 3600, 600, 86_400, TTL_S].entries()) numbers.writeUInt32BE(value, 4 * i)
  const data = Buffer.concat([encodeDnsName(ZONE), encodeDnsName(`nobody.${ZONE}`), numbers])
  return { name: zone, type: DNS_TYPE.soa, class: DNS_CLASS.internet, ttl: TTL_S, data }
}

function failure(query: Uint8Array, rcode: number): Uint8Array {
  return encodeDnsAnswer({ query, rcode, isAuthoritative: false, answers: [], authorities: [] })
}
