// The wallet as bytes: JSON in the state directory, and the same sealed under a passphrase as a backup.
//
//   backup (docs/spec/credits.md)
//   offset size  field (integers little-endian)
//   0      4     "HWB1"
//   4      16    salt
//   20     4     Argon2id memory, KiB
//   24     1     Argon2id passes
//   25     24    nonce
//   49     …     XChaCha20-Poly1305 of the JSON; the 25 bytes before the nonce are authenticated with it
//
// Length policy: at most 16 MiB. Costs above 1 GiB or 16 passes are refused before they are paid.

import { argon2Sync } from 'node:crypto'
import { z } from 'zod'
import { Reader } from '#bytes/reader.ts'
import { Writer } from '#bytes/writer.ts'
import { xchachaOpen, xchachaSeal } from '#crypto/chacha20poly1305.ts'
import type { Random } from '#crypto/random.ts'
import { MAX_TOKENS, MAX_WITHDRAWAL, type WalletState } from './wallet.ts'

export const MAX_WALLET_BYTES = 16 * 2 ** 20
const MAGIC = Buffer.from('HWB1')
const HEAD_BYTES = 25
const MAX_MEMORY_KIB = 2 ** 20
const MAX_PASSES = 16

export interface BackupCost {
  readonly memoryKib: number
  readonly passes: number
}

/** About half a second on a desk, and 256 MiB. */
export const BACKUP_COST: BackupCost = { memoryKib: 256 * 1024, passes: 3 }

const bytes = (length: number) =>
  z
    .string()
    .transform(text => new Uint8Array(Buffer.from(text, 'base64url')))
    .refine(value => value.length === length)
const token = z.strictObject({
  nonce: bytes(32),
  challengeDigest: bytes(32),
  keyId: bytes(32),
  authenticator: bytes(256),
  acceptedUntilMs: z.number(),
})
const tokens = z.array(token).max(MAX_TOKENS)
const schema = z.strictObject({
  version: z.literal(1),
  issuerId: z.string().regex(/^[0-9a-f]{64}$/),
  account: z.strictObject({
    name: z.string().max(256),
    password: z.string().max(256),
    isRegistered: z.boolean(),
    isNamed: z.boolean().exactOptional(),
  }),
  tokens,
  hand: tokens,
  doubtful: tokens,
  withdrawal: z
    .strictObject({
      keyId: bytes(32),
      acceptedUntilMs: z.number(),
      items: z
        .array(z.strictObject({ nonce: bytes(32), message: bytes(256), inverse: bytes(256) }))
        .max(MAX_WITHDRAWAL),
    })
    .exactOptional(),
  deposit: tokens.exactOptional(),
  history: z
    .array(
      z.strictObject({
        atMs: z.number(),
        kind: z.enum(['withdrawn', 'spent', 'deposited', 'voucher', 'order', 'lost', 'restored', 'sent', 'received']),
        credits: z.number().int(),
      }),
    )
    .max(1_000),
})

/** The state as text, secrets and all. */
export function encodeWallet(state: WalletState): string {
  const replace = (_: string, value: unknown) =>
    value instanceof Uint8Array ? Buffer.from(value).toString('base64url') : value
  return `${JSON.stringify({ version: 1, ...state }, (key, value) => replace(key, plain(value)))}\n`
}

/** Reads a state; `undefined` when it is none. */
export function decodeWallet(text: string): WalletState | undefined {
  try {
    const { version: _, ...state } = schema.parse(JSON.parse(text))
    return state
  } catch {
    return undefined
  }
}

/** A backup under a passphrase. */
export function sealBackup(state: WalletState, passphrase: string, random: Random, cost = BACKUP_COST): Uint8Array {
  const head = new Writer(HEAD_BYTES).bytes(MAGIC).bytes(random(16)).u32le(cost.memoryKib).u8(cost.passes).done()
  const nonce = random(24)
  const sealed = xchachaSeal(
    keyOf(passphrase, head.subarray(4, 20), cost),
    nonce,
    Buffer.from(encodeWallet(state)),
    head,
  )
  return Buffer.concat([head, nonce, sealed])
}

/** Opens a backup; `undefined` when it is none, was changed, or has another passphrase. */
export function openBackup(backup: Uint8Array, passphrase: string): WalletState | undefined {
  if (backup.length > MAX_WALLET_BYTES) return undefined
  const reader = new Reader(backup)
  if (!MAGIC.equals(reader.bytes(4))) return undefined
  const salt = reader.bytes(16)
  const cost = { memoryKib: reader.u32le(), passes: reader.u8() }
  const nonce = reader.bytes(24)
  const sealed = reader.rest()
  const isPayable =
    cost.memoryKib >= 8 && cost.memoryKib <= MAX_MEMORY_KIB && cost.passes >= 1 && cost.passes <= MAX_PASSES
  if (!reader.done || !isPayable) return undefined
  const plain = xchachaOpen(keyOf(passphrase, salt, cost), nonce, sealed, backup.subarray(0, HEAD_BYTES))
  return plain && decodeWallet(Buffer.from(plain).toString())
}

function keyOf(passphrase: string, salt: Uint8Array, cost: BackupCost): Uint8Array {
  return argon2Sync('argon2id', {
    message: passphrase.normalize('NFKC'),
    nonce: salt,
    parallelism: 1,
    tagLength: 32,
    memory: cost.memoryKib,
    passes: cost.passes,
  })
}

/** `JSON.stringify` asks a Buffer for its own form first. */
function plain(value: unknown): unknown {
  const { type, data } = (value ?? {}) as { type?: unknown; data?: unknown }
  return type === 'Buffer' && Array.isArray(data) ? Uint8Array.from(data as number[]) : value
}
