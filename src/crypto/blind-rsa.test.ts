import assert from 'node:assert/strict'
import { createPrivateKey, createPublicKey } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { type TestContext, test } from 'node:test'
import { publicVerif, TOKEN_TYPES } from '@cloudflare/privacypass-ts'
import {
  blind,
  blindSign,
  finalize,
  generateTokenKey,
  importTokenKey,
  importTokenSecret,
  publicTokenKey,
  verifyBlindSignature,
} from './blind-rsa.ts'

const VECTORS = new URL('../../../shared/vectors/tokens/', import.meta.url)
const bytes = (text: string | undefined) => new Uint8Array(Buffer.from((text ?? '').replace(/^0x/, ''), 'hex'))
const hex = (data: Uint8Array | undefined) => data && Buffer.from(data).toString('hex')

test('the vectors of RFC 9578 type 2: request, response and token, byte for byte', async t => {
  const vectors = read(t, 'rfc9578-type2-blind-rsa.json')
  for (const v of vectors ?? []) {
    const privateKey = createPrivateKey(Buffer.from(bytes(v['skS'])).toString())
    const key = importTokenKey(bytes(v['pkS']))
    assert.ok(key !== undefined)
    assert.equal(hex(publicTokenKey(privateKey).encoded), v['pkS'])
    const token = bytes(v['token'])
    const input = token.subarray(0, 98)
    assert.equal(hex(input.subarray(66)), hex(key.id))

    // The library draws the salt first, then the blinding factor.
    const drawn = [bytes(v['salt']), bytes(v['blind'])]
    const blinded = await withRandom(t, drawn, () => blind(key, input))
    assert.equal(hex(blinded.message), v['token_request']?.slice(6))
    const signature = blindSign(privateKey, blinded.message)
    assert.equal(hex(signature), v['token_response'])
    assert.equal(hex(await finalize(key, input, bytes(v['token_response']), blinded.inverse)), hex(token.subarray(98)))
    assert.equal(verifyBlindSignature(key, input, token.subarray(98)), true)
  }
})

test('the vector of RFC 9474 for RSABSSA-SHA384-PSS-Deterministic', async t => {
  const v = read(t, 'rfc9474-blind-rsa.json')?.find(({ name }) => name === 'RSABSSA-SHA384-PSS-Deterministic')
  if (v === undefined) return
  const url = (name: string) => Buffer.from(bytes(v[name])).toString('base64url')
  const [n, d, p, q] = ['n', 'd', 'p', 'q'].map(name => BigInt(v[name] ?? '')) as [bigint, bigint, bigint, bigint]
  const number = (value: bigint) =>
    Buffer.from(
      value.toString(16).padStart(value.toString(16).length + 1 - ((value.toString(16).length + 1) % 2), '0'),
      'hex',
    ).toString('base64url')
  const jwk = { kty: 'RSA', n: url('n'), e: url('e'), d: url('d'), p: url('p'), q: url('q') }
  const dp = number(d % (p - 1n))
  const dq = number(d % (q - 1n))
  const qi = number(inverse(q, p))
  assert.equal(p * q, n)
  const privateKey = createPrivateKey({ key: { ...jwk, dp, dq, qi }, format: 'jwk' })
  const key = { key: createPublicKey(privateKey), encoded: new Uint8Array(), id: new Uint8Array() }
  const message = bytes(v['msg'])
  const signature = blindSign(privateKey, bytes(v['blinded_msg']))
  assert.equal(hex(signature), v['blind_sig'])
  assert.equal(hex(await finalize(key, message, bytes(v['blind_sig']), bytes(v['inv']))), v['sig'])
  assert.equal(verifyBlindSignature(key, message, bytes(v['sig'])), true)
})

test('a signature by another key, of another message, cut or changed does not hold', async () => {
  const { publicKey, secret } = generateTokenKey()
  const privateKey = importTokenSecret(secret.bytes)
  const message = new Uint8Array(98).fill(7)
  const { message: blinded, inverse } = await blind(publicKey, message)
  const blindSignature = blindSign(privateKey, blinded) ?? new Uint8Array()
  const signature = (await finalize(publicKey, message, blindSignature, inverse)) ?? new Uint8Array()
  assert.equal(verifyBlindSignature(publicKey, message, signature), true)
  assert.equal(verifyBlindSignature(generateTokenKey().publicKey, message, signature), false)
  assert.equal(verifyBlindSignature(publicKey, message.with(0, 8), signature), false)
  for (const length of [0, 1, 255]) {
    assert.equal(verifyBlindSignature(publicKey, message, signature.subarray(0, length)), false)
    assert.equal(blindSign(privateKey, blinded.subarray(0, length)), undefined)
    assert.equal(await finalize(publicKey, message, blindSignature.subarray(0, length), inverse), undefined)
  }
  for (let at = 0; at < 256; at += 17) {
    assert.equal(verifyBlindSignature(publicKey, message, signature.with(at, (signature[at] ?? 0) ^ 1)), false)
  }
  assert.equal(await finalize(publicKey, message, blinded, inverse), undefined, 'what was not signed')
  assert.equal(blindSign(privateKey, new Uint8Array(256).fill(255)), undefined, 'no number below the modulus')
  const twice = blindSign(privateKey, blinded)
  assert.equal(hex(twice), hex(blindSignature), 'signing again gives the same')
})

test('a published key is read only in its one encoding', () => {
  const { encoded, id } = generateTokenKey().publicKey
  assert.equal(hex(importTokenKey(encoded)?.id), hex(id))
  for (let length = 0; length < encoded.length; length++)
    assert.equal(importTokenKey(encoded.subarray(0, length)), undefined)
  assert.equal(importTokenKey(Buffer.concat([encoded, Uint8Array.of(0)])), undefined)
  for (let at = 0; at < 81; at++) assert.equal(importTokenKey(encoded.with(at, (encoded[at] ?? 0) ^ 1)), undefined)
  for (let at = encoded.length - 5; at < encoded.length; at++)
    assert.equal(importTokenKey(encoded.with(at, (encoded[at] ?? 0) ^ 2)), undefined, 'another exponent')
})

test("the Privacy Pass library's client accepts what we sign, and its tokens hold here", async () => {
  const { publicKey, secret } = generateTokenKey()
  const privateKey = importTokenSecret(secret.bytes)
  const client = new publicVerif.Client(publicVerif.BlindRSAMode.PSS)
  const origin = new publicVerif.Origin(publicVerif.BlindRSAMode.PSS)
  const challenge = origin.createTokenChallenge('issuer.example', new Uint8Array())
  const request = await client.createTokenRequest(challenge, new Uint8Array(publicKey.encoded))
  const signature = blindSign(
    privateKey,
    publicVerif.TokenRequest.deserialize(TOKEN_TYPES.BLIND_RSA, request.serialize()).blindedMsg,
  )
  const token = await client.finalize(publicVerif.TokenResponse.deserialize(new Uint8Array(signature ?? [])))
  const all = token.serialize()
  assert.equal(hex(all.subarray(66, 98)), hex(publicKey.id))
  assert.equal(verifyBlindSignature(publicKey, all.subarray(0, 98), all.subarray(98)), true)
})

function read(t: TestContext, file: string): Record<string, string>[] | undefined {
  const url = new URL(file, VECTORS)
  if (existsSync(url)) return (JSON.parse(readFileSync(url, 'utf8')) as { vectors: Record<string, string>[] }).vectors
  t.skip('the third-party vectors are not beside the repository')
  return undefined
}

/** Runs with the global source of randomness giving these arrays, one a call. */
async function withRandom<T>(t: TestContext, drawn: Uint8Array[], run: () => Promise<T>): Promise<T> {
  const mock = t.mock.method(globalThis.crypto, 'getRandomValues', (into: Uint8Array) => {
    into.set(drawn.shift() ?? new Uint8Array())
    return into
  })
  try {
    return await run()
  } finally {
    mock.mock.restore()
  }
}

function inverse(a: bigint, modulus: bigint): bigint {
  let [r, next, s, nextS] = [a, modulus, 1n, 0n]
  while (next !== 0n) {
    const quotient = r / next
    ;[r, next, s, nextS] = [next, r - quotient * next, nextS, s - quotient * nextS]
  }
  return ((s % modulus) + modulus) % modulus
}
