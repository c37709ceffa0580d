import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  decapsulateMlKem,
  encapsulateMlKem,
  generateMlKem,
  MLKEM_CIPHERTEXT_BYTES,
  MLKEM_PUBLIC_BYTES,
  mlKemFromSeed,
} from './mlkem768.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/', import.meta.url)
const SKIPPED = 'the third-party vectors are not beside the repository'
const hex = (text: string | undefined) => Buffer.from(text ?? '', 'hex')
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

interface Case {
  tcId: number
  flags?: string[]
  seed: string
  ek: string
  c: string
  K: string
  result: string
}

function wycheproof(file: string): Case[] | undefined {
  const url = new URL(`wycheproof/${file}`, VECTORS)
  if (!existsSync(url)) return undefined
  const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: { tests: Case[] }[] }
  return testGroups.flatMap(group => group.tests)
}

test('a key from a seed is the published one', t => {
  const cases = wycheproof('mlkem_768_keygen_seed_test.json')
  const url = new URL('acvp/ML-KEM-768-keyGen.json', VECTORS)
  if (cases === undefined || !existsSync(url)) return t.skip(SKIPPED)
  for (const { seed, ek, tcId } of cases) assert.equal(toHex(mlKemFromSeed(hex(seed)).publicKey), ek, `case ${tcId}`)
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Record<'d' | 'z' | 'ek', string>[] }
  for (const { d, z, ek } of vectors) {
    assert.equal(toHex(mlKemFromSeed(hex(d + z)).publicKey), ek.toLowerCase())
  }
})

test('every Wycheproof ciphertext gives the published secret, the forged ones too (implicit rejection)', t => {
  const cases = wycheproof('mlkem_768_test.json')
  if (cases === undefined) return t.skip(SKIPPED)
  for (const { tcId, seed, ek, c, K, result } of cases) {
    if (hex(seed).length !== 64) continue
    const key = mlKemFromSeed(hex(seed))
    if (result === 'valid') assert.equal(toHex(key.publicKey), ek, `case ${tcId}`)
    assert.equal(toHex(decapsulateMlKem(key.privateKey, hex(c))), result === 'valid' ? K : undefined, `case ${tcId}`)
  }
})

test('the NIST decapsulation cases with a seed give the published secret', t => {
  const url = new URL('acvp/ML-KEM-768-encapDecap.json', VECTORS)
  if (!existsSync(url)) return t.skip(SKIPPED)
  type Vector = { group: { function: string; keyFormat: string } } & Record<string, string>
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Vector[] }
  let ran = 0
  for (const vector of vectors) {
    if (vector.group.function === 'encapsulationKeyCheck') {
      const isAccepted = encapsulateMlKem(hex(vector['ek'])) !== undefined
      assert.equal(isAccepted, Boolean(vector['testPassed']))
      ran++
    }
    if (vector.group.function !== 'decapsulation' || vector.group.keyFormat !== 'seed') continue
    const { privateKey } = mlKemFromSeed(hex(`${vector['d']}${vector['z']}`))
    assert.equal(toHex(decapsulateMlKem(privateKey, hex(vector['c']))), vector['k']?.toLowerCase())
    ran++
  }
  assert.ok(ran > 0)
})

test('every encapsulation key with a coefficient above the modulus is refused', t => {
  const cases = wycheproof('mlkem_768_encaps_test.json')
  const url = new URL('cctv/ML-KEM-768-modulus-sample.txt', VECTORS)
  if (cases === undefined || !existsSync(url)) return t.skip(SKIPPED)
  for (const { tcId, ek, result } of cases) {
    assert.equal(encapsulateMlKem(hex(ek)) !== undefined, result === 'valid', `case ${tcId}`)
  }
  const lines = readFileSync(url, 'utf8').trim().split('\n')
  for (const line of lines) assert.equal(encapsulateMlKem(hex(line.trim())), undefined)
  assert.ok(lines.length >= 50)
})

test('both ends get the same secret; a forged ciphertext gives another; other lengths give none', () => {
  const key = generateMlKem()
  assert.equal(key.publicKey.length, MLKEM_PUBLIC_BYTES)
  const made = encapsulateMlKem(key.publicKey)
  assert.ok(made)
  assert.equal(made.ciphertext.length, MLKEM_CIPHERTEXT_BYTES)
  assert.equal(toHex(decapsulateMlKem(key.privateKey, made.ciphertext)), toHex(made.secret))
  const forged = Uint8Array.from(made.ciphertext)
  forged[7] = (forged[7] ?? 0) ^ 1
  const other = decapsulateMlKem(key.privateKey, forged)
  assert.equal(other?.length, 32)
  assert.notEqual(toHex(other), toHex(made.secret))
  for (const length of [0, 1, MLKEM_CIPHERTEXT_BYTES - 1, MLKEM_CIPHERTEXT_BYTES + 1, 1184]) {
    assert.equal(decapsulateMlKem(key.privateKey, new Uint8Array(length)), undefined)
  }
  for (const length of [0, MLKEM_PUBLIC_BYTES - 1, MLKEM_PUBLIC_BYTES + 1]) {
    assert.equal(encapsulateMlKem(new Uint8Array(length)), undefined)
  }
})
