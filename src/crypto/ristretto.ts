// The group ristretto255 (RFC 9496) and the numbers below its order, as proofs need them.

import { pippenger } from '@noble/curves/abstract/curve.js'
import { ristretto255, ristretto255_hasher } from '@noble/curves/ed25519.js'
import type { Random } from './random.ts'

const Group = ristretto255.Point
export type Point = ReturnType<typeof ristretto255.Point.fromBytes>
const field = Group.Fn
export const BASE: Point = Group.BASE
export const ZERO: Point = Group.ZERO
export const add = (a: bigint, b: bigint): bigint => field.add(a, b)
export const sub = (a: bigint, b: bigint): bigint => field.sub(a, b)
export const mul = (a: bigint, b: bigint): bigint => field.mul(a, b)
export const neg = (a: bigint): bigint => field.neg(a)
export const inv = (a: bigint): bigint => field.inv(a)

/** A point that nobody knows the logarithm of, from 64 uniform bytes (RFC 9496 §4.3.4). */
export function fromUniform(bytes: Uint8Array): Point {
  const derive = ristretto255_hasher.deriveToCurve
  if (derive === undefined) throw new Error('derive a point: the library cannot')
  return derive(bytes)
}

/** The sum of `points`, each times its scalar. Its time depends on the scalars. */
export function combine(points: readonly Point[], scalars: readonly bigint[]): Point {
  return pippenger(Group, [...points], [...scalars])
}

/** The point of 32 bytes; `undefined` unless they are its one encoding (RFC 9496 §4.3.1). */
export function decodePoint(bytes: Uint8Array): Point | undefined {
  try {
    return Group.fromBytes(bytes)
  } catch {
    return undefined
  }
}

/** The number of 32 bytes; `undefined` when it is not below the group's order. */
export function decodeScalar(bytes: Uint8Array): bigint | undefined {
  const value = littleEndian(bytes)
  return value < field.ORDER ? value : undefined
}

/** A number below the group's order as 32 bytes. */
export function encodeScalar(value: bigint): Uint8Array {
  return field.toBytes(value)
}

/** A random number above 0 and below the group's order. */
export function randomScalar(random: Random): bigint {
  return wide(random(64)) || 1n
}

/** 64 bytes as a number below the group's order, little-endian. */
export function wide(bytes: Uint8Array): bigint {
  return littleEndian(bytes) % field.ORDER
}

function littleEndian(bytes: Uint8Array): bigint {
  return BigInt(`0x${Buffer.from(bytes).reverse().toString('hex')}`)
}
