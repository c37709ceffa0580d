import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { hkdf, hkdfExpand, hkdfExtract } from './hkdf.ts'

const WYCHEPROOF = new URL('../../../shared/vectors/primitives/wycheproof/hkdf_sha256_test.json', import.meta.url)
const hex = (text: string) => Buffer.from(text, 'hex')

interface Case {
  readonly tcId: number
  readonly ikm: string
  readonly salt: string
  readonly info: string
  readonly size: number
  readonly okm: string
  readonly result: string
}

test('every Wycheproof case gives the published key, and too long an output is refused', t => {
  if (!existsSync(WYCHEPROOF)) return t.skip('the third-party vectors are not beside the repository')
  const { testGroups } = JSON.parse(readFileSync(WYCHEPROOF, 'utf8')) as { testGroups: { tests: Case[] }[] }
  for (const { tcId, ikm, salt, info, size, okm, result } of testGroups.flatMap(group => group.tests)) {
    const expand = () => hkdfExpand(hkdfExtract(hex(salt), hex(ikm)), hex(info), size)
    if (result === 'valid') assert.equal(Buffer.from(expand()).toString('hex'), okm, `case ${tcId}`)
    else assert.throws(expand, RangeError, `case ${tcId}`)
  }
})

test('the parts of an input count as one, and both steps together are the same as one after the other', () => {
  const salt = hex('01')
  const whole = hkdfExtract(salt, hex('020304'))
  assert.deepEqual(hkdfExtract(salt, hex('02'), hex('0304')), whole)
  assert.deepEqual(hkdf(salt, hex('020304'), 'label', 40), hkdfExpand(whole, Buffer.from('label'), 40))
})
