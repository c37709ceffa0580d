import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Chacha20Poly1305 } from '@hpke/chacha20poly1305'
import { CipherSuite, HkdfSha256 } from '@hpke/core'
import { XWing } from '@hpke/hybridkem-x-wing'
import { HPKE_OVERHEAD, hpkeOpen, hpkeSeal } from './hpke.ts'
import { seededRandom } from './random.ts'
import { XWING_CIPHERTEXT_BYTES, xwingFromSeed } from './xwing.ts'

const random = seededRandom('hpke')
const text = (value: string) => new Uint8Array(Buffer.from(value))
const suite = new CipherSuite({ kem: new XWing(), kdf: new HkdfSha256(), aead: new Chacha20Poly1305() })

test('what we seal the published library opens, and the other way about', async () => {
  const seed = random(32)
  const pair = xwingFromSeed(seed)
  const [info, ad, plain] = [text('info'), text('ad'), random(700)]
  const sealed = new Uint8Array(hpkeSeal(pair.publicKey, info, ad, plain) ?? [])
  assert.equal(sealed.length, plain.length + HPKE_OVERHEAD)
  const recipientKey = await suite.kem.importKey('raw', seed.slice().buffer, false)
  const enc = sealed.slice(0, XWING_CIPHERTEXT_BYTES)
  const opened = await suite.open({ recipientKey, enc, info }, sealed.slice(XWING_CIPHERTEXT_BYTES), ad)
  assert.deepEqual(new Uint8Array(opened), plain)
  const recipientPublicKey = await suite.kem.importKey('raw', new Uint8Array(pair.publicKey).buffer, true)
  const theirs = await suite.seal({ recipientPublicKey, info }, plain, ad)
  const joined = Buffer.concat([new Uint8Array(theirs.enc), new Uint8Array(theirs.ct)])
  assert.deepEqual(new Uint8Array(hpkeOpen(pair, info, ad, joined) ?? []), plain)
})

test('another key, info or header, and any change of a byte, opens nothing', () => {
  const [pair, other] = [xwingFromSeed(random(32)), xwingFromSeed(random(32))]
  const [info, ad] = [text('info'), text('ad')]
  const sealed = hpkeSeal(pair.publicKey, info, ad, text('hello'))
  assert.ok(sealed)
  assert.ok(hpkeOpen(pair, info, ad, sealed))
  assert.equal(hpkeOpen(other, info, ad, sealed), undefined)
  assert.equal(hpkeOpen(pair, text('else'), ad, sealed), undefined)
  assert.equal(hpkeOpen(pair, info, text('else'), sealed), undefined)
  for (const at of [0, 1100, 1119, 1120, sealed.length - 1]) {
    const forged: Uint8Array = Uint8Array.from(sealed)
    forged[at] = (forged[at] ?? 0) ^ 4
    assert.equal(hpkeOpen(pair, info, ad, forged), undefined)
  }
  for (const length of [0, HPKE_OVERHEAD - 1, sealed.length - 1])
    assert.equal(hpkeOpen(pair, info, ad, sealed.subarray(0, length)), undefined)
  assert.equal(hpkeSeal(new Uint8Array(10), info, ad, text('hello')), undefined)
})
