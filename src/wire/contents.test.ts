import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { type DeviceCard, decodeCard, encodeCard, isDeviceName, MAX_CARD_BYTES } from './device-card.ts'
import {
  type DeviceMessage,
  decodeDeviceMessage,
  decodePayload,
  encodeDeviceMessage,
  encodePayload,
  MAX_DATA_BYTES,
} from './device-message.ts'
import { MAX_CONTENT_BYTES } from './letter.ts'
import { decodeMatch, encodeMatch, MAX_OFFER_BYTES, type MatchMessage } from './match.ts'
import { decodePair, encodePair, type PairMessage } from './pairing.ts'
import { decodePeerOffer, encodePeerOffer, type PeerOffer } from './peer-offer.ts'

const some = (length: number) => new Uint8Array(randomBytes(length))
const session = some(16)

const CARD: DeviceCard = {
  id: Buffer.from(some(16)).toString('hex'),
  generation: 3,
  sealingKey: some(1216),
  identityKey: some(32),
  prekey: some(32),
  kemKey: some(1184),
  tunnelKey: some(32),
  name: 'laptop-2',
}
const PAIR: readonly PairMessage[] = [
  { kind: 'hello', session, share: some(32), replyKey: some(1216) },
  { kind: 'answer', session, share: some(32), tag: some(32), replyKey: some(1216) },
  { kind: 'confirm', session, tag: some(32), sealedCard: some(MAX_CARD_BYTES + 16) },
  { kind: 'done', session, sealedCard: some(40) },
  { kind: 'refused', session, reason: 'used' },
  { kind: 'refused', session, reason: 'wrongCode' },
]
const MATCH: readonly MatchMessage[] = [
  { kind: 'request', nonce: session, replyKey: some(1216), offer: some(MAX_OFFER_BYTES) },
  { kind: 'answer', nonce: session, isAccepted: false, offer: some(0) },
]
const OFFERS: readonly PeerOffer[] = [
  { offer: some(39) },
  { meeting: { relay: CARD.id + CARD.id, token: some(32) }, offer: some(615) },
]
const RATCHET = { ratchetKey: some(32), previousLength: 4, number: 70_000, salt: some(16), ciphertext: some(17) }
const DEVICE: readonly DeviceMessage[] = [
  { sender: CARD.id, session: some(8), begin: undefined, ratchet: RATCHET },
  {
    sender: CARD.id,
    session: some(8),
    begin: { generation: 1, begunMs: 1_800_000_000_000, ephemeralKey: some(32), kemCiphertext: some(1088) },
    ratchet: { ...RATCHET, ciphertext: some(1 + MAX_DATA_BYTES + 16) },
  },
]

const CODECS = [
  { name: 'card', values: [CARD], encode: encodeCard, decode: decodeCard, isOpen: false },
  { name: 'pairing', values: PAIR, encode: encodePair, decode: decodePair, isOpen: true },
  { name: 'match', values: MATCH, encode: encodeMatch, decode: decodeMatch, isOpen: true },
  { name: 'offer to a peer', values: OFFERS, encode: encodePeerOffer, decode: decodePeerOffer, isOpen: true },
  { name: 'device message', values: DEVICE, encode: encodeDeviceMessage, decode: decodeDeviceMessage, isOpen: true },
] as unknown as readonly {
  name: string
  values: readonly unknown[]
  encode(value: unknown): Uint8Array
  decode(bytes: Uint8Array): unknown
  isOpen: boolean
}[]

for (const { name, values, encode, decode, isOpen } of CODECS) {
  test(`every ${name} comes out as it went in, and fits into a letter`, () => {
    for (const value of values) {
      const bytes = encode(value)
      assert.ok(bytes.length <= MAX_CONTENT_BYTES)
      assert.deepEqual(plain(decode(bytes)), plain(value))
    }
  })

  test(`a ${name} that is cut off, too long or garbage never throws, and is never taken for a whole one`, () => {
    for (const value of values) {
      const bytes = encode(value)
      for (let length = 0; length < bytes.length; length++) {
        const decoded = decode(bytes.subarray(0, length))
        if (decoded !== undefined) assert.ok(isOpen, `cut to ${length} of ${bytes.length}`)
      }
      const longer = decode(Buffer.concat([bytes, Uint8Array.of(0)]))
      if (longer !== undefined) assert.notDeepEqual(plain(longer), plain(value))
    }
    fc.assert(fc.property(fc.uint8Array({ maxLength: 3_000 }), bytes => void decode(bytes)))
    fc.assert(
      fc.property(fc.nat(), fc.integer({ min: 0, max: 255 }), fc.constantFrom(...values), (at, byte, value) => {
        const bytes = encode(value)
        bytes[at % bytes.length] = byte
        decode(bytes)
      }),
    )
  })
}

test('fixed fields are whole: nothing is cut out of the middle of a pairing message', () => {
  for (const message of PAIR.filter(({ kind }) => kind === 'hello' || kind === 'answer' || kind === 'refused')) {
    const bytes = encodePair(message)
    for (let length = 0; length < bytes.length; length++) assert.equal(decodePair(bytes.subarray(0, length)), undefined)
    assert.equal(decodePair(Buffer.concat([bytes, Uint8Array.of(1)])), undefined)
  }
})

test('a card has a name that can stand in the DNS, and keys of some generation', () => {
  for (const name of ['a', 'laptop', 'x'.repeat(32), '0-0']) assert.ok(isDeviceName(name))
  for (const name of ['', '-a', 'a-', 'A', 'a.b', 'x'.repeat(33), 'ä', 'a b', 'a\n'])
    assert.ok(!isDeviceName(name), name)
  assert.equal(decodeCard(encodeCard({ ...CARD, generation: 0 })), undefined)
  assert.equal(decodeCard(encodeCard({ ...CARD, name: 'LAPTOP' })), undefined)
})

test('the inside of a ratchet message has a kind that is known, and a body only where one belongs', () => {
  for (const kind of ['data', 'card'] as const)
    assert.deepEqual(plain(decodePayload(encodePayload({ kind, body: some(9) })))?.kind, kind)
  for (const kind of ['hello', 'bye'] as const) {
    assert.equal(decodePayload(encodePayload({ kind, body: new Uint8Array(0) }))?.kind, kind)
    assert.equal(decodePayload(encodePayload({ kind, body: some(1) })), undefined)
  }
  for (const bytes of [[], [0], [5], [255, 1]]) assert.equal(decodePayload(Uint8Array.from(bytes)), undefined)
})

test('an offer that is too long is refused on both sides', () => {
  const message = { kind: 'answer', nonce: session, isAccepted: true, offer: some(MAX_OFFER_BYTES) } as const
  assert.throws(() => encodeMatch({ ...message, offer: some(MAX_OFFER_BYTES + 1) }), RangeError)
  assert.equal(decodeMatch(Buffer.concat([encodeMatch(message), Uint8Array.of(0)])), undefined)
})

/** Views and arrays alike as hex, so that they can be compared. */
function plain(value: unknown): { kind?: string } | undefined {
  if (value === undefined) return undefined
  return JSON.parse(
    JSON.stringify(value, (_key, item: unknown) => {
      if (item instanceof Uint8Array) return Buffer.from(item).toString('hex')
      const buffer = item as { type?: string; data?: number[] } | null
      return buffer?.type === 'Buffer' ? Buffer.from(buffer.data ?? []).toString('hex') : item
    }),
  ) as { kind?: string }
}
