import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { seededRandom } from './random.ts'
import {
  decapsulateXWing,
  encapsulateXWing,
  XWING_CIPHERTEXT_BYTES,
  XWING_PUBLIC_BYTES,
  xwingFromSeed,
} from './xwing.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/hybrid-kem/x-wing.json', import.meta.url)
const hex = (text: string) => Buffer.from(text, 'hex')
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

test('keys from seeds and secrets from ciphertexts are those of the draft', t => {
  if (!existsSync(VECTORS)) return t.skip('the third-party vectors are not beside the repository')
  type Vector = Record<'seed' | 'pk' | 'ct' | 'ss', string>
  const { vectors } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { vectors: Vector[] }
  assert.ok(vectors.length > 0)
  for (const { seed, pk, ct, ss } of vectors) {
    const pair = xwingFromSeed(hex(seed))
    assert.equal(toHex(pair.publicKey), pk)
    assert.equal(toHex(decapsulateXWing(pair, hex(ct))), ss)
  }
})

test('both ends get the same secret; a change in either half of the ciphertext gives another', () => {
  const pair = xwingFromSeed(seededRandom('x-wing')(32))
  assert.equal(pair.publicKey.length, XWING_PUBLIC_BYTES)
  const made = encapsulateXWing(pair.publicKey)
  assert.ok(made)
  assert.equal(made.ciphertext.length, XWING_CIPHERTEXT_BYTES)
  assert.deepEqual(decapsulateXWing(pair, made.ciphertext), made.secret)
  for (const at of [3, XWING_CIPHERTEXT_BYTES - 20]) {
    const forged = Uint8Array.from(made.ciphertext)
    forged[at] = (forged[at] ?? 0) ^ 1
    assert.notDeepEqual(decapsulateXWing(pair, forged), made.secret)
  }
})

test('unusable keys and ciphertexts give no secret', () => {
  const pair = xwingFromSeed(new Uint8Array(32))
  const lowOrder = Uint8Array.from(pair.publicKey).fill(0, XWING_PUBLIC_BYTES - 32)
  assert.equal(encapsulateXWing(lowOrder), undefined)
  assert.equal(encapsulateXWing(new Uint8Array(XWING_PUBLIC_BYTES).fill(255)), undefined)
  for (const length of [0, 1, XWING_PUBLIC_BYTES - 1, XWING_PUBLIC_BYTES + 1])
    assert.equal(encapsulateXWing(new Uint8Array(length)), undefined)
  for (const length of [0, XWING_CIPHERTEXT_BYTES - 1, XWING_CIPHERTEXT_BYTES + 1])
    assert.equal(decapsulateXWing(pair, new Uint8Array(length)), undefined)
  assert.equal(decapsulateXWing(pair, new Uint8Array(XWING_CIPHERTEXT_BYTES)), undefined)
})
