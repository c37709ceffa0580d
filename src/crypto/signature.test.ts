import assert from 'node:assert/strict'
import { createPublicKey, verify } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { inspect } from 'node:util'
import { seededRandom } from './random.ts'
import {
  generateIdentity,
  IDENTITY_PUBLIC_BYTES,
  IDENTITY_SEED_BYTES,
  IDENTITY_SIGNATURE_BYTES,
  identityFromSeed,
  verifySignature,
} from './signature.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/', import.meta.url)
const SKIPPED = 'the third-party vectors are not beside the repository'
const hex = (text: string | undefined) => Buffer.from(text ?? '', 'hex')
const toHex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
const identity = identityFromSeed(seededRandom('signature')(IDENTITY_SEED_BYTES))
const message = Buffer.from('a relay descriptor')
const flip = (bytes: Uint8Array, bit: number) => {
  const flipped = Uint8Array.from(bytes)
  flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
  return flipped
}

test('a signature holds for its message, key and purpose, and for nothing else', () => {
  const signature = identity.sign(message, 'descriptor')
  assert.equal(identity.publicKey.length, IDENTITY_PUBLIC_BYTES)
  assert.equal(signature.length, IDENTITY_SIGNATURE_BYTES)
  assert.equal(verifySignature(identity.publicKey, message, signature, 'descriptor'), true)
  assert.equal(verifySignature(identity.publicKey, message, signature, 'directory'), false)
  assert.equal(verifySignature(identity.publicKey, Buffer.from('another'), signature, 'descriptor'), false)
  assert.equal(verifySignature(generateIdentity().publicKey, message, signature, 'descriptor'), false)
})

test('context and message cannot be shifted into each other', () => {
  const signature = identity.sign(Buffer.from('bc'), 'a')
  assert.equal(verifySignature(identity.publicKey, Buffer.from('c'), signature, 'ab'), false)
  for (const context of ['', 'x'.repeat(256)]) assert.throws(() => identity.sign(message, context), /1 to 255/)
})

test('both halves must hold: one from another message is refused', () => {
  const [good, other] = [identity.sign(message, 'c'), identity.sign(Buffer.from('other'), 'c')]
  const halves = [
    [good.subarray(0, 64), other.subarray(64)],
    [other.subarray(0, 64), good.subarray(64)],
  ]
  for (const half of halves) {
    assert.equal(verifySignature(identity.publicKey, message, Buffer.concat(half), 'c'), false)
  }
})

test('both keys must be the right ones: half a stranger is a stranger', () => {
  const stranger = generateIdentity()
  const signature = identity.sign(message, 'c')
  for (const key of [
    [identity.publicKey.subarray(0, 32), stranger.publicKey.subarray(32)],
    [stranger.publicKey.subarray(0, 32), identity.publicKey.subarray(32)],
  ]) {
    assert.equal(verifySignature(Buffer.concat(key), message, signature, 'c'), false)
  }
})

test('a flipped bit in signature or key, every other length and garbage give false', () => {
  const signature = identity.sign(message, 'c')
  for (let bit = 0; bit < signature.length * 8; bit += 211) {
    assert.equal(verifySignature(identity.publicKey, message, flip(signature, bit), 'c'), false, `bit ${bit}`)
  }
  for (let bit = 0; bit < identity.publicKey.length * 8; bit += 307) {
    assert.equal(verifySignature(flip(identity.publicKey, bit), message, signature, 'c'), false, `key bit ${bit}`)
  }
  for (const length of [0, 64, IDENTITY_SIGNATURE_BYTES - 1, IDENTITY_SIGNATURE_BYTES + 1]) {
    assert.equal(verifySignature(identity.publicKey, message, new Uint8Array(length), 'c'), false)
  }
  for (const length of [0, 32, IDENTITY_PUBLIC_BYTES - 1, IDENTITY_PUBLIC_BYTES + 1]) {
    assert.equal(verifySignature(new Uint8Array(length), message, signature, 'c'), false)
  }
})

test('a seed brings the same identity back, keeps its own copy, and is never printed', () => {
  const first = generateIdentity()
  const stored = Uint8Array.from(first.seed.bytes)
  const again = identityFromSeed(stored)
  stored.fill(0)
  assert.equal(toHex(again.publicKey), toHex(first.publicKey))
  assert.equal(toHex(again.seed.bytes), toHex(first.seed.bytes))
  assert.equal(verifySignature(first.publicKey, message, again.sign(message, 'c'), 'c'), true)
  assert.match(inspect(first), /\[secret\]/)
  assert.doesNotMatch(JSON.stringify(first), new RegExp(toHex(first.seed.bytes)))
  for (const length of [0, 32, 63, 65]) assert.throws(() => identityFromSeed(new Uint8Array(length)), /64 bytes/)
})

test('the ML-DSA-65 half has the public keys that NIST and Wycheproof publish for their seeds', t => {
  const acvp = new URL('acvp/ML-DSA-65-keyGen.json', VECTORS)
  const wycheproof = new URL('wycheproof/mldsa_65_sign_seed_test.json', VECTORS)
  if (!existsSync(acvp) || !existsSync(wycheproof)) return t.skip(SKIPPED)
  const pairs = (JSON.parse(readFileSync(acvp, 'utf8')) as { vectors: { seed: string; pk: string }[] }).vectors
  const { testGroups } = JSON.parse(readFileSync(wycheproof, 'utf8')) as {
    testGroups: { privateSeed: string; publicKey: string }[]
  }
  pairs.push(...testGroups.map(({ privateSeed, publicKey }) => ({ seed: privateSeed, pk: publicKey })))
  let ran = 0
  for (const { seed, pk } of pairs) {
    if (hex(seed).length !== 32 || !pk) continue
    const { publicKey } = identityFromSeed(Buffer.concat([Buffer.alloc(32, 1), hex(seed)]))
    assert.equal(toHex(publicKey.subarray(32)), pk.toLowerCase())
    ran++
  }
  assert.ok(ran >= 10, `only ${ran} cases ran`)
})

test('the verifiers underneath agree with the verdicts of Wycheproof', t => {
  interface Group {
    publicKey: string | { pk: string }
    tests: { tcId: number; msg: string; ctx?: string; sig: string; result: string }[]
  }
  for (const [file, asymmetricKeyType] of [
    ['mldsa_65_verify_test.json', 'ml-dsa-65'],
    ['ed25519_test.json', 'ed25519'],
  ] as const) {
    const url = new URL(`wycheproof/${file}`, VECTORS)
    if (!existsSync(url)) return t.skip(SKIPPED)
    const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: Group[] }
    for (const { publicKey, tests } of testGroups) {
      const raw = hex(typeof publicKey === 'string' ? publicKey : publicKey.pk)
      for (const { tcId, msg, ctx, sig, result } of tests) {
        const holds = () => {
          const key = createPublicKey({ key: raw, format: 'raw-public', asymmetricKeyType })
          return verify(null, hex(msg), { key, ...(ctx ? { context: hex(ctx) } : {}) }, hex(sig))
        }
        assert.equal(orFalse(holds), result === 'valid', `${file} case ${tcId}`)
      }
    }
  }
})

function orFalse(check: () => boolean): boolean {
  try {
    return check()
  } catch {
    return false
  }
}
