// DNS messages (RFC 1035), as much as a server of a few names needs: any message is read, answers to one question are written.
//
//   header 12: id u16, flags u16 (QR 1, opcode 4, AA 1, TC 1, RD 1, RA 1, Z 3, rcode 4), counts of questions, answers,
//   authorities and additionals, u16 each
//   question: name, type u16, class u16
//   record:   name, type u16, class u16, TTL u32, length u16, data
//   name:     labels (length u8, 1 to 63, bytes), then 0 or a pointer (0xc000 | offset) to an earlier name
//
// Network byte order. Length policy: lax, as the DNS is: what follows the last record is ignored. Bounds: 4,096 bytes, 64
// records; a name has at most 255 bytes and its pointers only ever go backwards, so none can go round. Names are given in lower
// case with dots between labels; a label with bytes other than printable ASCII, or with a dot or backslash in it, has those as
// \DDD (RFC 1035 §5.1).

const HEADER_BYTES = 12
const MAX_MESSAGE_BYTES = 4096
const MAX_RECORDS = 64
const MAX_NAME_BYTES = 255
const MAX_ANSWER_BYTES = 512

export const DNS_TYPE = { a: 1, ns: 2, soa: 6, ptr: 12, aaaa: 28, any: 255 } as const
export const DNS_CLASS = { internet: 1, any: 255 } as const
export const RCODE = { noError: 0, formatError: 1, nameError: 3, notImplemented: 4, refused: 5 } as const

export interface DnsQuestion {
  readonly name: string
  readonly type: number
  readonly class: number
}

export interface DnsRecord extends DnsQuestion {
  readonly ttl: number
  /** A view; names in it may be compressed. */
  readonly data: Uint8Array
}

export interface DnsHeader {
  readonly id: number
  readonly isResponse: boolean
  readonly opcode: number
  readonly isAuthoritative: boolean
  readonly isRecursionDesired: boolean
  readonly rcode: number
}

export interface DnsMessage extends DnsHeader {
  readonly questions: readonly DnsQuestion[]
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
  readonly additionals: readonly DnsRecord[]
}

export interface DnsAnswer {
  /** The question as it was asked, copied from there, so that its case stays (as resolvers check). */
  readonly query: Uint8Array
  readonly rcode: number
  readonly isAuthoritative: boolean
  readonly answers: readonly DnsRecord[]
  readonly authorities: readonly DnsRecord[]
}

/** The header of a message; `undefined` when it is too short for one. */
export function decodeDnsHeader(bytes: Uint8Array): DnsHeader | undefined {
  if (bytes.length < HEADER_BYTES) return undefined
  const flags = u16(bytes, 2)
  return {
    id: u16(bytes, 0),
    isResponse: (flags & 0x8000) !== 0,
    opcode: (flags >> 11) & 0xf,
    isAuthoritative: (flags & 0x400) !== 0,
    isRecursionDesired: (flags & 0x100) !== 0,
    rcode: flags & 0xf,
  }
}

/** Decodes a message; `undefined` when it is malformed or beyond the bounds. */
export function decodeDns(bytes: Uint8Array): DnsMessage | undefined {
  const header = decodeDnsHeader(bytes)
  if (header === undefined || bytes.length > MAX_MESSAGE_BYTES) return undefined
  const [questionCount = 0, ...recordCounts] = [4, 6, 8, 10].map(at => u16(bytes, at))
  if (questionCount + recordCounts.reduce((sum, count) => sum + count, 0) > MAX_RECORDS) return undefined
  const cursor = { at: HEADER_BYTES }
  const questions = many(questionCount, () => readQuestion(bytes, cursor))
  const [answers, authorities, additionals] = recordCounts.map(count => many(count, () => readRecord(bytes, cursor)))
  if (!questions || !answers || !authorities || !additionals) return undefined
  return { ...header, questions, answers, authorities, additionals }
}

/** Writes an answer of at most 512 bytes; one that would be longer has no records and the truncation bit. */
export function encodeDnsAnswer({ query, rcode, isAuthoritative, answers, authorities }: DnsAnswer): Uint8Array {
  const question = questionBytes(query)
  const records = [...answers, ...authorities].map(encodeRecord)
  const length = HEADER_BYTES + question.length + records.reduce((sum, record) => sum + record.length, 0)
  const isTooLong = length > MAX_ANSWER_BYTES
  const header = Buffer.alloc(HEADER_BYTES)
  const asked = query.length >= HEADER_BYTES ? u16(query, 2) & 0x7900 : 0
  header.writeUInt16BE(u16(query, 0), 0)
  header.writeUInt16BE(0x8000 | asked | (isAuthoritative ? 0x400 : 0) | (isTooLong ? 0x200 : 0) | rcode, 2)
  header.writeUInt16BE(question.length > 0 ? 1 : 0, 4)
  header.writeUInt16BE(isTooLong ? 0 : answers.length, 6)
  header.writeUInt16BE(isTooLong ? 0 : authorities.length, 8)
  return Buffer.concat([header, question, ...(isTooLong ? [] : records)])
}

/** A name on the wire, uncompressed. Throws for one that is none: it is our own. */
export function encodeDnsName(name: string): Uint8Array {
  const labels = name === '' ? [] : name.split('.')
  const parts = labels.map(label => {
    if (!/^[\x21-\x5b\x5d-\x7e]{1,63}$/.test(label)) throw new RangeError('write a name: a label is 1 to 63 characters')
    return Buffer.concat([Uint8Array.of(label.length), Buffer.from(label, 'latin1')])
  })
  return Buffer.concat([...parts, Uint8Array.of(0)])
}

function encodeRecord({ name, type, class: klass, ttl, data }: DnsRecord): Uint8Array {
  const fixed = Buffer.alloc(10)
  fixed.writeUInt16BE(type, 0)
  fixed.writeUInt16BE(klass, 2)
  fixed.writeUInt32BE(ttl, 4)
  fixed.writeUInt16BE(data.length, 8)
  return Buffer.concat([encodeDnsName(name), fixed, data])
}

/** The bytes of the only question; empty when there is not exactly one whole. */
function questionBytes(query: Uint8Array): Uint8Array {
  const cursor = { at: HEADER_BYTES }
  const isSound = query.length > HEADER_BYTES && u16(query, 4) === 1 && readQuestion(query, cursor) !== undefined
  return isSound ? query.subarray(HEADER_BYTES, cursor.at) : new Uint8Array(0)
}

interface Cursor {
  at: number
}

function many<T>(count: number, read: () => T | undefined): T[] | undefined {
  const items: T[] = []
  for (let i = 0; i < count; i++) {
    const item = read()
    if (item === undefined) return undefined
    items.push(item)
  }
  return items
}

function readQuestion(bytes: Uint8Array, cursor: Cursor): DnsQuestion | undefined {
  const name = readName(bytes, cursor)
  const at = cursor.at
  cursor.at += 4
  if (name === undefined || cursor.at > bytes.length) return undefined
  return { name, type: u16(bytes, at), class: u16(bytes, at + 2) }
}

function readRecord(bytes: Uint8Array, cursor: Cursor): DnsRecord | undefined {
  const question = readQuestion(bytes, cursor)
  const at = cursor.at
  if (question === undefined || at + 6 > bytes.length) return undefined
  const end = at + 6 + u16(bytes, at + 4)
  if (end > bytes.length) return undefined
  cursor.at = end
  return { ...question, ttl: u16(bytes, at) * 0x1_0000 + u16(bytes, at + 2), data: bytes.subarray(at + 6, end) }
}

function readName(bytes: Uint8Array, cursor: Cursor): string | undefined {
  const labels: string[] = []
  let at = cursor.at
  /** Pointers must lead before this. */
  let before = at
  let hasJumped = false
  for (let length = 1; ; ) {
    const size = bytes[at]
    if (size === undefined) return undefined
    if (size >= 0xc0) {
      const next = bytes[at + 1]
      if (next === undefined) return undefined
      const target = ((size & 0x3f) << 8) | next
      if (!hasJumped) cursor.at = at + 2
      if (target < HEADER_BYTES || target >= before) return undefined
      hasJumped = true
      before = target
      at = target
      continue
    }
    if (size > 63 || at + 1 + size > bytes.length) return undefined
    length += 1 + size
    if (length > MAX_NAME_BYTES + 1) return undefined
    at += 1 + size
    if (size === 0) break
    labels.push(labelText(bytes.subarray(at - size, at)))
  }
  if (!hasJumped) cursor.at = at
  return labels.join('.')
}

function labelText(label: Uint8Array): string {
  let text = ''
  for (const byte of label) {
    const isPlain = byte > 0x20 && byte < 0x7f && byte !== 0x2e && byte !== 0x5c
    text += isPlain ? String.fromCharCode(byte).toLowerCase() : `\\${String(byte).padStart(3, '0')}`
  }
  return text
}

function u16(bytes: Uint8Array, at: number): number {
  return ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0)
}
