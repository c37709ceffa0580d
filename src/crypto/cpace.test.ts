import assert from 'node:assert/strict'
import { test } from 'node:test'
import { cpaceKey, cpaceShareOf, makeCpaceShare } from './cpace.ts'
import { seededRandom } from './random.ts'

const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')
const text = (value: string) => new Uint8Array(Buffer.from(value))

/** draft-irtf-cfrg-cpace, appendix "CPace using group ristretto255 and hash SHA-512". */
const DRAFT = {
  sessionId: hex('7e4b4791d6a8ef019b936c79fb7f2c57'),
  ya: hex('da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08'),
  yb: hex('d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d'),
  shareA: '383a85dd236978f17f8c8545b50dabc52a39fcdab2cf8bc531ce040ff77ca82d',
  shareB: 'a6206309c0e8e5f579295e35997ac4300ab3fecec3c17f7b604f3e698fa1383c',
  key: 'e91ccb2c0f5e0d0993a33956e3be59754f3f2b07db57631f5394452ea2e7b4354674eb1f5686c078462bf83bec72e8743df440108e638f3526d9b90e85be096f',
}
const options = {
  secret: text('Password'),
  channel: text('\nAinitiator\nBresponder'),
  sessionId: DRAFT.sessionId,
}
const littleEndian = (bytes: Uint8Array) => BigInt(`0x${toHex(Uint8Array.from(bytes).reverse())}`)

test('shares and key are those of the draft', () => {
  const a = cpaceShareOf(options, littleEndian(DRAFT.ya))
  const b = cpaceShareOf(options, littleEndian(DRAFT.yb))
  assert.equal(toHex(a.share), DRAFT.shareA)
  assert.equal(toHex(b.share), DRAFT.shareB)
  const transcript = {
    initiatorShare: a.share,
    initiatorData: text('ADa'),
    responderShare: b.share,
    responderData: text('ADb'),
  }
  assert.equal(toHex(cpaceKey(a.scalar, b.share, DRAFT.sessionId, transcript)), DRAFT.key)
  assert.equal(toHex(cpaceKey(b.scalar, a.share, DRAFT.sessionId, transcript)), DRAFT.key)
})

test('the shares that the draft calls invalid give no key, nor does any other length', () => {
  const { scalar, share } = cpaceShareOf(options, 5n)
  const transcript = {
    initiatorShare: share,
    initiatorData: text(''),
    responderShare: share,
    responderData: text(''),
  }
  const invalid = [
    '2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c',
    '0000000000000000000000000000000000000000000000000000000000000000',
    `ff${'ff'.repeat(31)}`,
    '',
    'aa',
  ]
  for (const their of invalid) assert.equal(cpaceKey(scalar, hex(their), DRAFT.sessionId, transcript), undefined)
})

test('another secret, channel or session gives another key', () => {
  const random = seededRandom('cpace')
  const keyOf = (theirs: Partial<typeof options>) => {
    const a = makeCpaceShare(options, random)
    const b = makeCpaceShare({ ...options, ...theirs }, random)
    const transcript = {
      initiatorShare: a.share,
      initiatorData: text('a'),
      responderShare: b.share,
      responderData: text('b'),
    }
    const session = theirs.sessionId ?? DRAFT.sessionId
    return [
      toHex(cpaceKey(a.scalar, b.share, DRAFT.sessionId, transcript)),
      toHex(cpaceKey(b.scalar, a.share, session, transcript)),
    ]
  }
  const [same, too] = keyOf({})
  assert.equal(same, too)
  for (const other of [{ secret: text('password') }, { channel: text('x') }, { sessionId: hex('00') }]) {
    const [one, two] = keyOf(other)
    assert.notEqual(one, two)
  }
})
