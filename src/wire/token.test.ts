import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { TokenChallenge } from '@cloudflare/privacypass-ts'
import { challengeDigest, decodeToken, encodeToken, TOKEN_BYTES, tokenInput } from './token.ts'

const VECTORS = new URL('../../../shared/vectors/tokens/rfc9578-type2-blind-rsa.json', import.meta.url)
const hex = (data: Uint8Array | undefined) => data && Buffer.from(data).toString('hex')

test('the tokens of RFC 9578 are read and written back, with the digest of their challenge', t => {
  if (!existsSync(VECTORS)) return t.skip('the third-party vectors are not beside the repository')
  const { vectors } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { vectors: Record<string, string>[] }
  for (const { token: text = '', token_challenge = '', nonce } of vectors) {
    const token = decodeToken(Buffer.from(text, 'hex'))
    assert.ok(token !== undefined)
    assert.equal(hex(token.nonce), nonce)
    assert.equal(hex(token.challengeDigest), createHash('sha256').update(token_challenge, 'hex').digest('hex'))
    assert.equal(hex(encodeToken(token)), text)
    assert.equal(hex(tokenInput(token)), text.slice(0, 196))
  }
})

test("an issuer's challenge is the one that the Privacy Pass library makes", () => {
  for (const name of ['a', 'issuer.example', 'x'.repeat(255)]) {
    const challenge = new TokenChallenge(2, name, new Uint8Array()).serialize()
    assert.equal(hex(challengeDigest(name)), createHash('sha256').update(challenge).digest('hex'))
  }
})

test('every other length and every other type is refused', () => {
  const bytes = new Uint8Array(TOKEN_BYTES).fill(1)
  bytes.set([0, 2])
  assert.equal(hex(encodeToken(decodeToken(bytes) ?? assert.fail())), hex(bytes))
  for (let length = 0; length < TOKEN_BYTES; length++) assert.equal(decodeToken(bytes.subarray(0, length)), undefined)
  assert.equal(decodeToken(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
  for (const type of [0, 1, 3, 0xda]) assert.equal(decodeToken(bytes.with(1, type)), undefined)
  assert.equal(decodeToken(bytes.with(0, 1)), undefined)
})

test('a decoded token does not change when the packet it came in is overwritten', () => {
  const packet = Buffer.alloc(TOKEN_BYTES, 3)
  packet.set([0, 2])
  const token = decodeToken(packet)
  packet.fill(9)
  assert.equal(token?.nonce[0], 3)
})
