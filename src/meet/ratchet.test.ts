import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { hkdf } from '#crypto/hkdf.ts'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import type { RatchetMessage } from '#wire/device-message.ts'
import {
  chainStep,
  initiatorRatchet,
  type RatchetOpened,
  type RatchetState,
  ratchetOpen,
  ratchetSeal,
  responderRatchet,
} from './ratchet.ts'

const VECTORS = new URL('../../../shared/vectors/ratchet-and-proofs/signal-double-ratchet.json', import.meta.url)
const random = seededRandom('ratchet')
const binding = random(32)
const hex = (text: string) => Buffer.from(text, 'hex')

class End {
  state: RatchetState

  constructor(state: RatchetState | undefined) {
    assert.ok(state)
    this.state = state
  }

  seal(text: string): RatchetMessage {
    const { state, message } = ratchetSeal(this.state, Buffer.from(text), binding, random)
    this.state = state
    return message
  }

  open(message: RatchetMessage): string {
    const opened: RatchetOpened = ratchetOpen(this.state, message, binding, random)
    if ('error' in opened) return `(${opened.error})`
    this.state = opened.state
    return Buffer.from(opened.plain).toString()
  }
}

function pair(): { a: End; b: End } {
  const root = random(32)
  const prekey = x25519FromPrivate(random(32))
  return { a: new End(initiatorRatchet(root, prekey.publicKey, random)), b: new End(responderRatchet(root, prekey)) }
}

test('chain keys and message keys are those of the published vectors', t => {
  if (!existsSync(VECTORS)) return t.skip('the third-party vectors are not beside the repository')
  const { vectors } = JSON.parse(readFileSync(VECTORS, 'utf8')) as { vectors: Record<string, string>[] }
  for (const vector of vectors) {
    const { messageKey, chainKey } = chainStep(hex(vector['chain_key'] ?? ''))
    assert.equal(Buffer.from(chainKey).toString('hex'), vector['next_chain_key'])
    const keys = Buffer.from(hkdf(new Uint8Array(32), messageKey, vector['info'] ?? '', 80)).toString('hex')
    assert.equal(keys, `${vector['cipher_key']}${vector['mac_key']}${vector['iv']}`)
  }
})

test('two speak in turns, each message under a new key', () => {
  const { a, b } = pair()
  const seen = new Set<string>()
  for (let i = 0; i < 20; i++) {
    const [from, to] = i % 3 === 0 ? [b, a] : [a, b]
    if (i === 0) continue
    const message = from.seal(`message ${i}`)
    seen.add(Buffer.from(message.ciphertext).toString('hex'))
    assert.equal(to.open(message), `message ${i}`)
  }
  assert.equal(seen.size, 19)
})

test('messages lost, late and out of order do no harm; one that comes twice is not opened twice', () => {
  const { a, b } = pair()
  const first = [0, 1, 2, 3, 4].map(i => a.seal(`first ${i}`))
  assert.equal(b.open(first[3] as RatchetMessage), 'first 3')
  assert.equal(b.open(first[0] as RatchetMessage), 'first 0')
  assert.equal(a.open(b.seal('back')), 'back')
  const second = [0, 1].map(i => a.seal(`second ${i}`))
  assert.equal(b.open(second[1] as RatchetMessage), 'second 1')
  assert.equal(b.open(first[4] as RatchetMessage), 'first 4', 'from the chain before')
  assert.equal(b.open(first[1] as RatchetMessage), 'first 1')
  assert.match(b.open(first[1] as RatchetMessage), /^\((repeated|forged)\)$/)
  assert.equal(b.open(second[1] as RatchetMessage), '(repeated)')
  assert.equal(b.open(second[0] as RatchetMessage), 'second 0')
})

test('keys of skipped messages are bounded, in one chain and in all', () => {
  const { a, b } = pair()
  assert.equal(b.open(a.seal('begin')), 'begin')
  for (let i = 0; i < 257; i++) a.seal('lost')
  assert.equal(b.open(a.seal('too far')), '(tooFarAhead)')
  assert.equal(b.state.skipped.length, 0)
  const other = pair()
  for (let round = 0; round < 6; round++) {
    for (let i = 0; i < 200; i++) other.a.seal('lost')
    assert.equal(other.b.open(other.a.seal('here')), 'here')
    assert.equal(other.a.open(other.b.seal('turn')), 'turn')
  }
  assert.equal(other.b.state.skipped.length, 512)
})

test('what is forged changes nothing', () => {
  const { a, b } = pair()
  assert.equal(b.open(a.seal('begin')), 'begin')
  const message = a.seal('true')
  const before = b.state
  const spoil = (bytes: Uint8Array) => Uint8Array.from(bytes, (byte, i) => (i === 3 ? byte ^ 1 : byte))
  const forged: RatchetMessage[] = [
    { ...message, ciphertext: spoil(message.ciphertext) },
    { ...message, salt: spoil(message.salt) },
    { ...message, number: message.number + 1 },
    { ...message, previousLength: 1 },
    { ...message, ratchetKey: spoil(message.ratchetKey) },
    { ...message, ratchetKey: new Uint8Array(32) },
    { ...message, number: 0xffff_ffff },
  ]
  for (const attempt of forged) assert.match(b.open(attempt), /^\((forged|tooFarAhead)\)$/)
  assert.equal(b.state, before)
  assert.equal(b.open(message), 'true')
})

test('a state restored from a backup never seals two messages with one key and nonce', () => {
  const { a } = pair()
  const backup = a.state
  const first = a.seal('the same words')
  a.state = backup
  const again = a.seal('the same words')
  assert.equal(first.number, again.number)
  assert.notDeepEqual(Buffer.from(first.ciphertext), Buffer.from(again.ciphertext))
})

test('who learns everything of one side reads nothing more once that side has answered with a new key', () => {
  const { a, b } = pair()
  assert.equal(b.open(a.seal('begin')), 'begin')
  const stolen = new End(b.state)
  assert.equal(a.open(b.seal('under the stolen key')), 'under the stolen key')
  const open = a.seal('still open')
  assert.equal(stolen.open(open), 'still open')
  assert.equal(b.open(open), 'still open')
  assert.equal(a.open(b.seal('under a new key')), 'under a new key')
  const healed = a.seal('closed')
  assert.equal(stolen.open(healed), '(forged)')
  assert.equal(b.open(healed), 'closed')
})
