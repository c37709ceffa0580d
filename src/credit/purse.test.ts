import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import type { Tariff } from './meter.ts'
import { Purse, type PurseAction } from './purse.ts'
import type { WalletToken } from './wallet.ts'

const TARIFF: Tariff = { quantumBytes: 1_000, freeBytes: 0 }

test('a session without free bytes is paid at once, and then whenever a quantum is used up', () => {
  const { purse, pays } = scene()
  purse.open(1, TARIFF, 0)
  assert.equal(pays().length, 1)
  purse.handleAnswer(1, { outwardBytes: 0 }, 0)
  const [settled, watch] = purse.take()
  assert.equal(settled?.kind, 'settle')
  assert.equal(watch?.kind, 'watch')
  const due = watch?.kind === 'watch' ? watch.bytes : 0
  assert.ok(due >= 1_000 && due <= 1_500, `${due}`)
  purse.handleEcho([1], 10)
  purse.handleUse(1, due - 1, 0, 10)
  assert.deepEqual(pays(), [])
  purse.handleUse(1, due, 0, 20)
  assert.equal(pays().length, 1)
  purse.handleUse(1, due + 5_000, 0, 30)
  assert.deepEqual(pays(), [], 'one at a time')
})

test('a relay is not paid while nothing comes back through it', () => {
  const { purse, pays } = scene()
  purse.open(1, TARIFF, 0)
  purse.handleAnswer(1, { outwardBytes: 0 }, 0)
  pays()
  purse.handleUse(1, 5_000, 0, 10_000)
  assert.deepEqual(pays(), [])
  assert.equal(purse.problem, 'relayIsIdle')
  purse.handleEcho([2], 10_100)
  assert.deepEqual(pays(), [])
  purse.handleEcho([1], 10_200)
  assert.equal(pays().length, 1)
  assert.equal(purse.problem, undefined)
})

test('no more is spent than the limit, whatever the number of sessions', () => {
  const { purse, pays } = scene({ limit: 3 })
  for (let session = 1; session <= 5; session++) purse.open(session, TARIFF, 0)
  assert.equal(pays().length, 3)
  assert.equal(purse.problem, 'limitReached')
})

test('an empty wallet is looked into again', () => {
  const { purse, pays, wallet } = scene({ tokens: 0 })
  purse.open(1, TARIFF, 0)
  assert.equal(purse.problem, 'empty')
  wallet.push(token(9))
  purse.tick(1_000)
  assert.equal(pays().length, 1)
})

test('a token that is refused, or whose relay is gone, is in doubt, and that relay is not paid again', () => {
  const { purse, wallet } = scene({ tokens: 2 })
  purse.open(1, TARIFF, 0)
  purse.open(2, TARIFF, 0)
  purse.take()
  purse.handleAnswer(1, 'refused', 5)
  purse.close(2)
  assert.deepEqual(
    purse.take().map(({ kind }) => kind),
    ['doubt', 'doubt'],
  )
  wallet.push(token(9))
  purse.handleUse(1, 9_000, 0, 10)
  purse.tick(20)
  assert.deepEqual(purse.take(), [])
})

function scene({ limit = 100, tokens = 50 } = {}) {
  const wallet = Array.from({ length: tokens }, (_, i) => token(i))
  const purse = new Purse({ show: () => wallet.shift(), limit, random: seededRandom('purse') })
  const pays = () =>
    purse.take().filter((action): action is Extract<PurseAction, { kind: 'pay' }> => action.kind === 'pay')
  return { purse, wallet, pays }
}

function token(n: number): WalletToken {
  const bytes = new Uint8Array(32).fill(n)
  return {
    nonce: bytes,
    challengeDigest: bytes,
    keyId: bytes,
    authenticator: new Uint8Array(256),
    acceptedUntilMs: 1e15,
  }
}
