import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { generateX25519, importX25519, isUsableX25519, x25519, x25519FromPrivate } from './x25519.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/', import.meta.url)
const hex = (text: string) => Buffer.from(text, 'hex')
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

test('every Wycheproof case of X25519: the published secret, and none where it would be all zero', t => {
  const url = new URL('wycheproof/x25519_test.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  type Case = Record<'public' | 'private' | 'shared', string> & { tcId: number }
  const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: { tests: Case[] }[] }
  const cases = testGroups.flatMap(group => group.tests)
  let refused = 0
  for (const vector of cases) {
    const expected = /^0+$/.test(vector.shared) ? undefined : vector.shared
    assert.equal(toHex(x25519(hex(vector.private), hex(vector.public))), expected, `case ${vector.tcId}`)
    assert.equal(isUsableX25519(hex(vector.public)), expected !== undefined, `case ${vector.tcId}`)
    if (expected === undefined) refused++
  }
  assert.ok(cases.length > 300 && refused > 5)
})

test('the scalar and coordinate of RFC 7748 §5.2 give the secret that it prints, imported or not', () => {
  const scalar = hex('a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4')
  const coordinate = hex('e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c')
  const secret = 'c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552'
  assert.equal(toHex(x25519(scalar, coordinate)), secret)
  assert.equal(toHex(x25519(importX25519(scalar), coordinate)), secret)
  const [alice, bob] = [generateX25519(), x25519FromPrivate(scalar)]
  assert.equal(toHex(x25519(alice.privateKey, bob.publicKey)), toHex(x25519(scalar, alice.publicKey)))
})

test('a public key of another length, and points of low order, give no secret', () => {
  const { privateKey } = generateX25519()
  for (const length of [0, 31, 33, 64]) assert.equal(x25519(privateKey, new Uint8Array(length).fill(9)), undefined)
  assert.equal(x25519(privateKey, new Uint8Array(32)), undefined)
  assert.equal(x25519(privateKey, Uint8Array.of(1, ...new Uint8Array(31))), undefined)
})

test('an imported key does not change when the bytes it came from are wiped', () => {
  const own = generateX25519()
  const theirs = generateX25519()
  const expected = toHex(x25519(own.privateKey, theirs.publicKey))
  const imported = importX25519(own.privateKey)
  own.privateKey.fill(0)
  assert.equal(toHex(x25519(imported, theirs.publicKey)), expected)
})
