import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { sealInPlace } from './aead.ts'
import { chachaOpen, chachaSeal, counterNonce, xchachaOpen, xchachaSeal } from './chacha20poly1305.ts'

const VECTORS = new URL('../../../shared/vectors/primitives/', import.meta.url)
const hex = (text: string | undefined) => Buffer.from(text ?? '', 'hex')
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

interface Case {
  tcId: number
  key: string
  iv: string
  aad: string
  msg: string
  ct: string
  tag: string
  result: string
}

for (const [name, nonceBytes, seal, open] of [
  ['chacha20_poly1305', 12, chachaSeal, chachaOpen],
  ['xchacha20_poly1305', 24, xchachaSeal, xchachaOpen],
] as const) {
  test(`every Wycheproof case of ${name}: valid ones sealed and opened, the others refused`, t => {
    const url = new URL(`wycheproof/${name}_test.json`, VECTORS)
    if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
    const { testGroups } = JSON.parse(readFileSync(url, 'utf8')) as { testGroups: { tests: Case[] }[] }
    const cases = testGroups.flatMap(group => group.tests)
    for (const { tcId, key, iv, aad, msg, ct, tag, result } of cases) {
      const opened = open(hex(key), hex(iv), hex(ct + tag), hex(aad))
      assert.equal(toHex(opened), result === 'valid' ? msg : undefined, `case ${tcId}`)
      if (result !== 'valid') continue
      assert.equal(hex(iv).length, nonceBytes)
      assert.equal(toHex(seal(hex(key), hex(iv), hex(msg), hex(aad))), ct + tag, `case ${tcId}`)
    }
    assert.ok(cases.length > 200)
  })

  test(`every BoringSSL case of ${name} is reproduced`, t => {
    const url = new URL(`boringssl/${name}_tests.txt`, VECTORS)
    if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
    let ran = 0
    for (const block of readFileSync(url, 'utf8').split(/\n\n+/)) {
      const fields = new Map([...block.matchAll(/^(\w+): ?(.*)$/gm)].map(([, name, value]) => [name, value ?? '']))
      const bytes = (field: string) => {
        const value = fields.get(field) ?? ''
        return value.startsWith('"') ? Buffer.from(value.slice(1, -1), 'latin1') : hex(value)
      }
      if (!fields.has('KEY') || fields.has('TAG_LEN') || bytes('TAG').length !== 16) continue
      const sealed = seal(bytes('KEY'), bytes('NONCE'), bytes('IN'), bytes('AD'))
      assert.equal(toHex(sealed), toHex(Buffer.concat([bytes('CT'), bytes('TAG')])))
      ran++
    }
    assert.ok(ran >= 20, `only ${ran} cases ran`)
  })

  test(`${name}: a flipped bit anywhere, and every truncation, is refused`, () => {
    const [key, nonce, ad] = [Buffer.alloc(32, 1), Buffer.alloc(nonceBytes, 2), Buffer.from('ad')]
    const sealed = seal(key, nonce, Buffer.from('hello'), ad)
    assert.equal(toHex(open(key, nonce, sealed, ad)), '68656c6c6f')
    assert.equal(open(key, nonce, sealed, Buffer.from('aD')), undefined)
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const flipped = Uint8Array.from(sealed)
      flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      assert.equal(open(key, nonce, flipped, ad), undefined)
    }
    for (let length = 0; length < sealed.length; length++) {
      assert.equal(open(key, nonce, sealed.subarray(0, length), ad), undefined)
    }
  })
}

test('the packet AEAD and the handshake AEAD seal alike', () => {
  const key = Buffer.alloc(32, 9)
  for (const counter of [0, 1, 0xffffffff, 2 ** 32, 2 ** 53 - 1]) {
    for (const length of [0, 1, 63, 64, 1400]) {
      const packet = Buffer.alloc(length + 16, 5)
      sealInPlace(key, counter, packet, 0, length)
      const sealed = chachaSeal(key, counterNonce(counter), Buffer.alloc(length, 5), new Uint8Array(0))
      assert.equal(toHex(packet), toHex(sealed))
    }
  }
})

test('a counter nonce is four zero bytes and the counter, little-endian', () => {
  assert.equal(toHex(counterNonce(0x0102030405)), '000000000504030201000000')
})
