import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { blake2s, keyedBlake2s, noiseHkdf } from './blake2s.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/', import.meta.url)
const hex = (text: string) => Buffer.from(text, 'hex')
const toHex = (bytes: Uint8Array | undefined) => Buffer.from(bytes ?? []).toString('hex')

test('every known answer of BLAKE2s, plain and keyed, is reproduced', t => {
  const url = new URL('blake2s-kat.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Record<'in' | 'key' | 'out', string>[] }
  for (const vector of vectors) {
    const data = hex(vector.in)
    const got = vector.key === '' ? blake2s(data) : keyedBlake2s(hex(vector.key), data, 32)
    assert.equal(toHex(got), vector.out)
    assert.equal(toHex(blake2s(data.subarray(0, 3), data.subarray(3))), toHex(blake2s(data)), 'parts are joined')
  }
  assert.ok(vectors.length > 300)
})

test('BLAKE2s of "abc" is what RFC 7693 appendix B prints', () => {
  const printed = '508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982'
  assert.equal(toHex(blake2s(Buffer.from('abc'))), printed)
})

test('the KDF of Noise is HKDF without info: the cases that have none are reproduced', t => {
  const url = new URL('wycheproof/hkdf_sha256_test.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  interface Case {
    ikm: string
    salt: string
    info: string
    size: number
    okm: string
    result: string
  }
  const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: { tests: Case[] }[] }
  let ran = 0
  for (const { ikm, salt, info, size, okm, result } of testGroups.flatMap(group => group.tests)) {
    if (info !== '' || size > 96 || result !== 'valid') continue
    const outputs = noiseHkdf('sha256', hex(salt), hex(ikm), 3)
    assert.equal(toHex(Buffer.concat(outputs).subarray(0, size)), okm)
    ran++
  }
  assert.ok(ran >= 5, `only ${ran} cases ran`)
})

test("WireGuard's KDF1 to KDF3 are reproduced", t => {
  const url = new URL('../wireguard/kdf-hmac-blake2s.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  type Case = Record<'key' | 'input' | 't0', string> & { t1?: string; t2?: string }
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Case[] }
  for (const { key, input, t0, t1, t2 } of vectors) {
    const expected = [t0, t1, t2].filter(output => output !== undefined)
    const outputs = noiseHkdf('blake2s256', hex(key), hex(input), 3).map(toHex)
    assert.deepEqual(outputs.slice(0, expected.length), expected)
  }
  assert.ok(vectors.length > 0)
})

test('a KDF gives the same first outputs however many are asked for', () => {
  const [key, input] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)]
  const three = noiseHkdf('blake2s256', key, input, 3).map(toHex)
  assert.deepEqual(noiseHkdf('blake2s256', key, input, 1).map(toHex), three.slice(0, 1))
  assert.deepEqual(noiseHkdf('blake2s256', key, input, 2).map(toHex), three.slice(0, 2))
  assert.equal(new Set(three).size, 3)
})
