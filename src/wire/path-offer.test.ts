import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { decodePathOffer, encodePathOffer, MAX_CANDIDATES, type PathOffer } from './path-offer.ts'

const random = seededRandom('offer')
const offer: PathOffer = {
  generation: 2,
  revision: 7,
  ufrag: random(6),
  password: random(18),
  nat: { mapping: 'dependent', lastPort: 40_000, step: -2 },
  candidates: [
    { kind: 'host', priority: 2_130_706_431, address: { host: '2001:db8::5', port: 41_000 } },
    { kind: 'serverReflexive', priority: 5, address: { host: '203.0.113.9', port: 1 } },
    { kind: 'relayed', priority: 0, address: { host: '198.51.100.1', port: 65_535 } },
    { kind: 'mapped', priority: 1, address: { host: '203.0.113.9', port: 2 } },
  ],
}

test('an offer comes back as it was', () => {
  assert.deepEqual(decodePathOffer(encodePathOffer(offer)), offer)
})

test('every truncation, a trailing byte and what is out of range is refused', () => {
  const bytes = encodePathOffer(offer)
  for (let length = 0; length < bytes.length; length++)
    assert.equal(decodePathOffer(bytes.subarray(0, length)), undefined)
  assert.equal(decodePathOffer(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
  for (const [at, value] of [
    [0, 2],
    [1, 3],
    [38, MAX_CANDIDATES + 1],
    [39, 4],
  ] as const) {
    const bent = new Uint8Array(bytes)
    bent[at] = value
    assert.equal(decodePathOffer(bent), undefined, `byte ${at}`)
  }
})

test('mutations never throw', () => {
  const bytes = encodePathOffer(offer)
  for (let i = 0; i < 3_000; i++) {
    const bent = new Uint8Array(bytes)
    const [at = 0, value = 0] = random(2)
    bent[at % bent.length] = value
    const back = decodePathOffer(bent)
    if (back !== undefined) assert.ok(back.candidates.length <= MAX_CANDIDATES)
  }
})

test('candidates beyond the bound are left out, and the longest offer has 615 bytes', () => {
  const candidates = Array.from({ length: 40 }, (_, i) => ({
    kind: 'host' as const,
    priority: i,
    address: { host: `2001:db8::${i + 1}`, port: 1 },
  }))
  const bytes = encodePathOffer({ ...offer, candidates })
  assert.equal(bytes.length, 615)
  assert.equal(decodePathOffer(bytes)?.candidates.length, MAX_CANDIDATES)
})
