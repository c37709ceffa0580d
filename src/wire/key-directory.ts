// An issuer's key directory: which token keys it has, and until when each is good. Relays and wallets read it from the
// issuer or from one another; the signature makes the way it came by of no account.
//
//   offset size  field (integers little-endian, times in ms since 1970)
//   0      4     "HKD1"
//   4      1     length of the issuer's name, then the name (1 to 255 printable ASCII characters, no space)
//   …      8     published
//   …      1     number of keys, 0 to 16
//          342   token key (RFC 9578 §6.5)                     \
//          8     signs from                                     |
//          8     signs until                                    |  each key, in the order in which they begin
//          8     accepted until: relays take its tokens         |
//          8     redeemed until: the issuer takes its tokens   /
//   …      1984  the issuer's identity (crypto/signature.ts)
//   …      3373  signature over all before it, purpose "hoplite issuer keys v1"
//
// Length policy: exact. The four times do not decrease.

import { copyBytes } from '#bytes/copy.ts'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'

const MAGIC = Buffer.from('HKD1')
export const KEY_DIRECTORY_CONTEXT = 'hoplite issuer keys v1'
export const MAX_DIRECTORY_KEYS = 16
const TOKEN_KEY_BYTES = 342
const IDENTITY_BYTES = 1984
const SIGNATURE_BYTES = 3373
const MAX_BYTES = 4 + 256 + 9 + MAX_DIRECTORY_KEYS * (TOKEN_KEY_BYTES + 32) + IDENTITY_BYTES
const NAME = /^[!-~]{1,255}$/

export interface DirectoryKey {
  /** As `importTokenKey` reads it. */
  readonly encoded: Uint8Array
  readonly signsFromMs: number
  readonly signsUntilMs: number
  readonly acceptedUntilMs: number
  readonly redeemedUntilMs: number
}

export interface KeyDirectory {
  readonly issuer: string
  readonly publishedMs: number
  readonly keys: readonly DirectoryKey[]
  /** The issuer's public identity. */
  readonly identity: Uint8Array
}

/** The bytes that are signed. */
export function encodeKeyDirectory(directory: KeyDirectory): Uint8Array {
  const name = Buffer.from(directory.issuer, 'latin1')
  const writer = new Writer(MAX_BYTES).bytes(MAGIC).u8(name.length).bytes(name)
  writer.u64le(directory.publishedMs).u8(directory.keys.length)
  for (const key of directory.keys) {
    writer.bytes(key.encoded).u64le(key.signsFromMs).u64le(key.signsUntilMs)
    writer.u64le(key.acceptedUntilMs).u64le(key.redeemedUntilMs)
  }
  return writer.bytes(directory.identity).done()
}

/** Takes a signed directory apart; `undefined` when it is malformed. The signature is not checked here. */
export function decodeKeyDirectory(
  bytes: Uint8Array,
): { readonly directory: KeyDirectory; readonly signed: Uint8Array; readonly signature: Uint8Array } | undefined {
  const reader = new Reader(copyBytes(bytes, 0, Math.min(bytes.length, MAX_BYTES + SIGNATURE_BYTES + 1)))
  if (!MAGIC.equals(reader.bytes(4))) return undefined
  const issuer = reader.text(reader.u8())
  if (!NAME.test(issuer)) return undefined
  const publishedMs = reader.u64le()
  const count = reader.u8()
  if (count > MAX_DIRECTORY_KEYS) return undefined
  const keys: DirectoryKey[] = []
  for (let i = 0; i < count && !reader.failed; i++) keys.push(readKey(reader))
  const identity = reader.bytes(IDENTITY_BYTES)
  const signed = bytes.subarray(0, reader.offset)
  const signature = reader.bytes(SIGNATURE_BYTES)
  if (!reader.done) return undefined
  return { directory: { issuer, publishedMs, keys, identity }, signed: copyBytes(signed), signature }
}

function readKey(reader: Reader): DirectoryKey {
  const encoded = reader.bytes(TOKEN_KEY_BYTES)
  const [signsFromMs, signsUntilMs] = [reader.u64le(), reader.u64le()]
  const [acceptedUntilMs, redeemedUntilMs] = [reader.u64le(), reader.u64le()]
  if (signsFromMs > signsUntilMs || signsUntilMs > acceptedUntilMs || acceptedUntilMs > redeemedUntilMs) reader.fail()
  return { encoded, signsFromMs, signsUntilMs, acceptedUntilMs, redeemedUntilMs }
}
