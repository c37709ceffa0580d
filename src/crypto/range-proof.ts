// Bulletproofs over ristretto255: that a committed number has at most n bits, and nothing else about it. No maintained library
// for npm has them over this group; the group itself, and the hashes, are @noble's.
//
// Source: Bünz et al., Bulletproofs (2018), §4.1 to 4.3 and the verification in one equation of §6.2; generators, transcript and
// bytes as dalek-cryptography's, so that others can check.
//
//   proof: A, S, T1, T2 (points), t_x, its blinding, e's blinding (scalars), then L, R for each halving, then a, b; 32 bytes each
//
// Length policy: exact, 32 · (9 + 2 · log2(n · m)) bytes. m commitments can share one proof; ours have one.

import { sha3_512, shake256 } from '@noble/hashes/sha3.js'
import { Transcript } from './merlin.ts'
import type { Random } from './random.ts'
import {
  add,
  BASE,
  combine,
  decodePoint,
  decodeScalar,
  encodeScalar,
  fromUniform,
  inv,
  mul,
  neg,
  type Point,
  randomScalar,
  sub,
  wide,
  ZERO,
} from './ristretto.ts'

const BLINDING = fromUniform(sha3_512(BASE.toBytes()))
const MAX_PARTIES = 16
export type RangeBits = 8 | 16 | 32 | 64

/** A number that nobody sees: `value · B + blinding · B'`, 32 bytes. */
export interface Commitment {
  readonly commitment: Uint8Array
  readonly blinding: bigint
}

/** Commits to a whole number from 0 to 2^64 - 1. */
export function commit(value: bigint, random: Random): Commitment {
  const blinding = randomScalar(random)
  return { blinding, commitment: BASE.multiplyUnsafe(value).add(BLINDING.multiply(blinding)).toBytes() }
}

/** The commitment to `total - value`, for whoever knows only `total` and the commitment to `value`; `undefined` if it is none. */
export function complement(total: bigint, commitment: Uint8Array): Uint8Array | undefined {
  const point = decodePoint(commitment)
  return point && BASE.multiplyUnsafe(total).subtract(point).toBytes()
}

/** The blinding of a complement. */
export function complementBlinding(blinding: bigint): bigint {
  return neg(blinding)
}

/** Proves that `value`, below 2^bits, is what was committed to. `label` says what for. */
export function proveRange(
  label: string,
  bits: RangeBits,
  value: bigint,
  { commitment, blinding }: Commitment,
  random: Random,
): Uint8Array {
  if (value < 0n || value >> BigInt(bits) !== 0n) throw new RangeError('prove a range: the number is not in it')
  const transcript = begin(label, bits, [commitment])
  const [G, H] = generators(bits, 1)
  const ones = Array.from({ length: bits }, (_, i) => (value >> BigInt(i)) & 1n)
  const [sL, sR] = [ones.map(() => randomScalar(random)), ones.map(() => randomScalar(random))]
  const [aBlinding, sBlinding] = [randomScalar(random), randomScalar(random)]
  const aR = ones.map(bit => sub(bit, 1n))
  const A = combine([BLINDING, ...G, ...H], [aBlinding, ...ones, ...aR])
  const S = combine([BLINDING, ...G, ...H], [sBlinding, ...sL, ...sR])
  append(transcript, 'A', A)
  append(transcript, 'S', S)
  const y = challenge(transcript, 'y')
  const z = challenge(transcript, 'z')
  const ys = powers(y, bits)
  const l0 = ones.map(bit => sub(bit, z))
  const r0 = aR.map((a, i) => add(mul(at(ys, i), add(a, z)), mul(mul(z, z), 2n ** BigInt(i))))
  const r1 = sR.map((s, i) => mul(at(ys, i), s))
  const [t0, t1, t2] = [inner(l0, r0), add(inner(l0, r1), inner(sL, r0)), inner(sL, r1)]
  const [t1Blinding, t2Blinding] = [randomScalar(random), randomScalar(random)]
  const T1 = combine([BASE, BLINDING], [t1, t1Blinding])
  const T2 = combine([BASE, BLINDING], [t2, t2Blinding])
  append(transcript, 'T_1', T1)
  append(transcript, 'T_2', T2)
  const x = challenge(transcript, 'x')
  const tx = add(t0, mul(x, add(t1, mul(x, t2))))
  const txBlinding = add(mul(mul(z, z), blinding), mul(x, add(t1Blinding, mul(x, t2Blinding))))
  const eBlinding = add(aBlinding, mul(x, sBlinding))
  const scalars = [tx, txBlinding, eBlinding].map(encodeScalar)
  for (const [i, name] of ['t_x', 't_x_blinding', 'e_blinding'].entries())
    transcript.append(name, scalars[i] ?? new Uint8Array())
  const Q = BASE.multiplyUnsafe(challenge(transcript, 'w'))
  const l = l0.map((value, i) => add(value, mul(x, at(sL, i))))
  const r = r0.map((value, i) => add(value, mul(x, at(r1, i))))
  const yInverses = powers(inv(y), bits)
  const H1 = H.map((point, i) => point.multiplyUnsafe(at(yInverses, i)))
  const halves = proveInner(transcript, Q, G, H1, l, r)
  return Buffer.concat([...[A, S, T1, T2].map(point => point.toBytes()), ...scalars, ...halves])
}

/** Whether the commitments are to numbers below 2^bits. Their count is a power of two, at most 16. */
export function verifyRange(
  label: string,
  bits: RangeBits,
  commitments: readonly Uint8Array[],
  proof: Uint8Array,
  random: Random,
): boolean {
  const parties = commitments.length
  const size = bits * parties
  const rounds = Math.log2(size)
  if (parties < 1 || parties > MAX_PARTIES || !Number.isInteger(rounds)) return false
  if (proof.length !== 32 * (9 + 2 * rounds)) return false
  const part = (i: number) => proof.subarray(32 * i, 32 * (i + 1))
  const points = [0, 1, 2, 3, ...Array.from({ length: 2 * rounds }, (_, i) => 7 + i)].map(i => decodePoint(part(i)))
  const [tx, txBlinding, eBlinding, a, b] = [4, 5, 6, 7 + 2 * rounds, 8 + 2 * rounds].map(i => decodeScalar(part(i)))
  const values = commitments.map(decodePoint)
  if (!all(points) || !all(values)) return false
  if (tx === undefined || txBlinding === undefined || eBlinding === undefined || a === undefined || b === undefined)
    return false

  const transcript = begin(label, bits, commitments)
  const appendPart = (name: string, i: number) => transcript.append(name, part(i))
  appendPart('A', 0)
  appendPart('S', 1)
  const y = challenge(transcript, 'y')
  const z = challenge(transcript, 'z')
  appendPart('T_1', 2)
  appendPart('T_2', 3)
  const x = challenge(transcript, 'x')
  appendPart('t_x', 4)
  appendPart('t_x_blinding', 5)
  appendPart('e_blinding', 6)
  const w = challenge(transcript, 'w')
  beginInner(transcript, size)
  const us = Array.from({ length: rounds }, (_, i) => {
    appendPart('L', 7 + 2 * i)
    appendPart('R', 8 + 2 * i)
    return challenge(transcript, 'u')
  })

  // s_i: the product of the challenges, each inverted where i's bit is 0. The first challenge belongs to the top bit.
  const s = [us.reduce((product, u) => mul(product, inv(u)), 1n)]
  for (const u of us.toReversed()) for (const value of [...s]) s.push(mul(value, mul(u, u)))
  const yInverses = powers(inv(y), size)
  const zs = powers(z, parties)
  const z2 = mul(z, z)
  const c = randomScalar(random)
  const g = s.map(value => sub(neg(z), mul(a, value)))
  const h = s.toReversed().map((value, i) => {
    const term = mul(mul(z2, at(zs, Math.floor(i / bits))), 2n ** BigInt(i % bits))
    return add(z, mul(at(yInverses, i), sub(term, mul(b, value))))
  })
  const twos = 2n ** BigInt(bits) - 1n
  const delta = sub(mul(sub(z, z2), sum(powers(y, size))), mul(mul(mul(z2, z), twos), sum(zs)))
  const base = add(mul(w, sub(tx, mul(a, b))), mul(c, sub(delta, tx)))
  const [G, H] = generators(bits, parties)
  const check = combine(
    [...points, BLINDING, BASE, ...G, ...H, ...values],
    [
      ...[1n, x, mul(c, x), mul(c, mul(x, x))],
      ...us.flatMap(u => [mul(u, u), inv(mul(u, u))]),
      ...[sub(neg(eBlinding), mul(c, txBlinding)), base],
      ...g,
      ...h,
      ...zs.map(power => mul(c, mul(z2, power))),
    ],
  )
  return check.equals(ZERO)
}

/** The inner product argument: vectors are halved until a number is left of each. */
function proveInner(transcript: Transcript, Q: Point, G: Point[], H: Point[], a: bigint[], b: bigint[]): Uint8Array[] {
  beginInner(transcript, a.length)
  const parts: Uint8Array[] = []
  while (a.length > 1) {
    const half = a.length / 2
    const [aL, aR, bL, bR] = [a.slice(0, half), a.slice(half), b.slice(0, half), b.slice(half)]
    const [GL, GR, HL, HR] = [G.slice(0, half), G.slice(half), H.slice(0, half), H.slice(half)]
    const L = combine([...GR, ...HL, Q], [...aL, ...bR, inner(aL, bR)])
    const R = combine([...GL, ...HR, Q], [...aR, ...bL, inner(aR, bL)])
    append(transcript, 'L', L)
    append(transcript, 'R', R)
    parts.push(L.toBytes(), R.toBytes())
    const u = challenge(transcript, 'u')
    const uInverse = inv(u)
    a = aL.map((value, i) => add(mul(value, u), mul(uInverse, at(aR, i))))
    b = bL.map((value, i) => add(mul(value, uInverse), mul(u, at(bR, i))))
    G = GL.map((point, i) => combine([point, at(GR, i)], [uInverse, u]))
    H = HL.map((point, i) => combine([point, at(HR, i)], [u, uInverse]))
  }
  return [...parts, encodeScalar(at(a, 0)), encodeScalar(at(b, 0))]
}

function begin(label: string, bits: RangeBits, commitments: readonly Uint8Array[]): Transcript {
  const transcript = new Transcript(label)
  transcript.append('dom-sep', Buffer.from('rangeproof v1'))
  transcript.appendNumber('n', bits)
  transcript.appendNumber('m', commitments.length)
  for (const commitment of commitments) transcript.append('V', commitment)
  return transcript
}

function beginInner(transcript: Transcript, size: number): void {
  transcript.append('dom-sep', Buffer.from('ipp v1'))
  transcript.appendNumber('n', size)
}

function append(transcript: Transcript, label: string, point: Point): void {
  transcript.append(label, point.toBytes())
}

function challenge(transcript: Transcript, label: string): bigint {
  return wide(transcript.challenge(label, 64))
}

const known = new Map<string, Point[]>()

/** Points that nobody knows a relation of: for party j, `bits` of each kind. Those of at most 32 chains are kept. */
function generators(bits: RangeBits, parties: number): [Point[], Point[]] {
  const chains = (kind: string) => Array.from({ length: parties }, (_, j) => chain(kind, j).slice(0, bits)).flat()
  return [chains('G'), chains('H')]
}

function chain(kind: string, party: number): Point[] {
  const name = `${kind}${party}`
  const found = known.get(name)
  if (found !== undefined) return found
  const label = Buffer.alloc(5, kind)
  label.writeUInt32LE(party, 1)
  const bytes = shake256(Buffer.concat([Buffer.from('GeneratorsChain'), label]), { dkLen: 64 * 64 })
  const points = Array.from({ length: 64 }, (_, i) => fromUniform(bytes.subarray(64 * i, 64 * (i + 1))))
  known.set(name, points)
  return points
}

function powers(base: bigint, count: number): bigint[] {
  const list = [1n]
  while (list.length < count) list.push(mul(at(list, list.length - 1), base))
  return list
}

function inner(a: readonly bigint[], b: readonly bigint[]): bigint {
  return sum(a.map((value, i) => mul(value, at(b, i))))
}

function sum(values: readonly bigint[]): bigint {
  return values.reduce((total, value) => add(total, value), 0n)
}

function at<T>(list: readonly T[], i: number): T {
  return list[i] as T
}

function all<T>(list: readonly (T | undefined)[]): list is T[] {
  return list.every(item => item !== undefined)
}
