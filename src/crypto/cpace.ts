// CPace (draft-irtf-cfrg-cpace), CPACE-RISTR255-SHA512, initiator and responder: two who know a short secret get a strong
// one, and who does not know it learns nothing but whether one guess was right.

import { createHash } from 'node:crypto'
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js'
import type { Random } from './random.ts'

const DSI = Buffer.from('CPaceRistretto255')
const DSI_ISK = Buffer.from('CPaceRistretto255_ISK')
/** The block of SHA-512: the secret fills the first, so that hashing it takes the same time for every length. */
const HASH_BLOCK_BYTES = 128
const { Point } = ristretto255

export interface CpaceOptions {
  /** What both know (PRS). */
  readonly secret: Uint8Array
  /** Who and what for (CI). */
  readonly channel: Uint8Array
  readonly sessionId: Uint8Array
}

/** One side's share, and the number behind it. */
export interface CpaceShare {
  readonly share: Uint8Array
  readonly scalar: bigint
}

/** Each side's share, with the data that goes along with it (Ya and ADa, Yb and ADb). */
export interface CpaceTranscript {
  readonly initiatorShare: Uint8Array
  readonly initiatorData: Uint8Array
  readonly responderShare: Uint8Array
  readonly responderData: Uint8Array
}

/** A fresh share (draft §6.2). */
export function makeCpaceShare(options: CpaceOptions, random: Random): CpaceShare {
  // One of 2^252 is below the group's order. Zero would give no share at all; it never comes.
  const bytes = Uint8Array.from(random(32))
  bytes[31] = (bytes[31] ?? 0) & 0x0f
  const scalar = Point.Fn.fromBytes(bytes, true) || 1n
  bytes.fill(0)
  return cpaceShareOf(options, scalar)
}

/** The share of a given number, from 1 to the group's order less 1. */
export function cpaceShareOf(options: CpaceOptions, scalar: bigint): CpaceShare {
  const { secret, channel, sessionId } = options
  const padding = Math.max(0, HASH_BLOCK_BYTES - withLength(secret).length - withLength(DSI).length - 1)
  const hashed = createHash('sha512')
    .update(lengthsAndValues(DSI, secret, new Uint8Array(padding), channel, sessionId))
    .digest()
  const generator = ristretto255_hasher.deriveToCurve?.(hashed)
  if (generator === undefined) throw new TypeError('make a share: the library has no map to ristretto255')
  return { scalar, share: generator.multiply(scalar).toBytes() }
}

/**
 * The 64-byte key that both get when their secrets were the same (ISK, draft §7); `undefined` when the other's share is no
 * share. It confirms nothing by itself.
 */
export function cpaceKey(
  scalar: bigint,
  theirShare: Uint8Array,
  sessionId: Uint8Array,
  transcript: CpaceTranscript,
): Uint8Array | undefined {
  const point = decode(theirShare)
  if (point === undefined) return undefined
  const { initiatorShare, initiatorData, responderShare, responderData } = transcript
  return createHash('sha512')
    .update(lengthsAndValues(DSI_ISK, sessionId, point.multiply(scalar).toBytes()))
    .update(lengthsAndValues(initiatorShare, initiatorData))
    .update(lengthsAndValues(responderShare, responderData))
    .digest()
}

function decode(share: Uint8Array) {
  try {
    const point = Point.fromBytes(share)
    return point.is0() ? undefined : point
  } catch {
    return undefined
  }
}

/** lv_cat of the draft: every part behind its length in LEB128. */
function lengthsAndValues(...parts: readonly Uint8Array[]): Uint8Array {
  return Buffer.concat(parts.map(withLength))
}

function withLength(bytes: Uint8Array): Uint8Array {
  const length: number[] = []
  let rest = bytes.length
  do {
    length.push(rest < 128 ? rest : (rest & 0x7f) | 0x80)
    rest >>>= 7
  } while (rest > 0)
  return Buffer.concat([Uint8Array.from(length), bytes])
}
