import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Payee, Payer, type Tariff, tariffOf } from './meter.ts'

const TARIFF: Tariff = { quantumBytes: 1_000, freeBytes: 0 }

test('a price in credits for a gibibyte becomes a quantum', () => {
  assert.deepEqual(tariffOf(16, 5), { quantumBytes: 67_108_864, freeBytes: 5 })
  assert.equal(tariffOf(0.5, 0).quantumBytes, 2 ** 31)
})

test('without a free allowance the first token goes with the handshake, and nothing is carried before it', () => {
  const payer = new Payer(TARIFF)
  const payee = new Payee(TARIFF)
  assert.equal(payer.state(), 'pay')
  assert.equal(payee.allowance(), 0)
  payee.handleToken(payer.pay().acceptedBytes)
  assert.equal(payer.state(), 'enough')
  assert.equal(payee.allowance(), 2_000)
})

test('the relay stops at one unpaid quantum', () => {
  const payee = new Payee(TARIFF)
  payee.handleToken(0)
  payee.handleCounts(1_500, 499)
  assert.equal(payee.allowance(), 1)
  payee.handleCounts(1_500, 500)
  assert.equal(payee.allowance(), 0)
  payee.handleToken(500)
  assert.equal(payee.allowance(), 1_000)
})

test('whoever never pays gets the free allowance and no more', () => {
  const payee = new Payee({ ...TARIFF, freeBytes: 300 })
  assert.equal(payee.allowance(), 300)
  payee.handleCounts(300, 0)
  assert.equal(payee.allowance(), 0)
})

test('the payer stops paying a relay that its probes do not come back through, and goes on when they do', () => {
  const payer = new Payer(TARIFF)
  payer.pay()
  payer.handleCounts(1_000, 0)
  payer.handleProbe(false)
  assert.equal(payer.state(), 'relayIsIdle')
  payer.handleProbe(true)
  assert.equal(payer.state(), 'pay')
})

test('what never came to the relay is not paid for', () => {
  const payer = new Payer(TARIFF)
  payer.pay()
  payer.handleCounts(1_000, 0)
  assert.equal(payer.state(), 'pay')
  payer.pay()
  payer.handleReceipt(400)
  payer.handleCounts(2_000, 0)
  assert.equal(payer.state(), 'enough')
  assert.equal(payer.dueBytes(), 2_600)
  payer.handleReceipt(2_000)
  assert.equal(payer.dueBytes(), 2_000, 'a relay that claims more than was sent gains nothing')
})

test('a payer pays later than due by its own part of a quantum, and the first token early', () => {
  const payer = new Payer({ quantumBytes: 1_000, freeBytes: 500 }, 0.5)
  assert.equal(payer.dueBytes(), 375)
  payer.pay()
  assert.equal(payer.dueBytes(), 2_000)
})

test('inward packets that nobody asked for are billed to nobody', () => {
  const payer = new Payer(TARIFF)
  const payee = new Payee(TARIFF)
  payee.handleToken(payer.pay().acceptedBytes)
  let sent = 0
  for (let i = 0; i < 40; i++) {
    sent += 250
    payer.handleCounts(sent, 0)
    // A stranger's bytes, a twentieth of the payer's: they opened no layer at the payer.
    payee.handleCounts(sent, Math.floor(sent / 20))
    assert.ok(payee.allowance() > 0, 'service goes on')
    if (payer.state() === 'pay') payee.handleToken(payer.pay().acceptedBytes)
  }
  assert.equal(payer.tokens, 11, 'ten quanta of its own, and the one that has begun')
  assert.ok(payee.billable() <= sent)
})

test('a payer that denies what it got is carried for a sixteenth more, and then stopped', () => {
  const payee = new Payee(TARIFF)
  payee.handleToken(0)
  let inward = 0
  let tokens = 1
  for (let i = 0; i < 10_000 && payee.allowance() > 0; i++) {
    inward += Math.min(100, payee.allowance())
    payee.handleCounts(0, inward)
    // It pays one token for two quanta.
    if (inward >= tokens * 2_000) {
      payee.handleToken(Math.floor(inward / 2))
      tokens++
    }
  }
  assert.equal(payee.allowance(), 0)
  assert.ok(inward <= (tokens + 1) * 1_000 * (1 + 1 / 16), `${inward} bytes for ${tokens} tokens`)
})

test('whatever is lost, delayed or denied, neither side loses more than one quantum', () => {
  const step = fc.record({
    bytes: fc.integer({ min: 0, max: 700 }),
    isInward: fc.boolean(),
    lost: fc.integer({ min: 0, max: 20 }),
    isTokenLate: fc.boolean(),
    isAnswered: fc.boolean(),
  })
  const scene = fc.record({
    freeBytes: fc.integer({ min: 0, max: 3_000 }),
    steps: fc.array(step, { minLength: 1, maxLength: 200 }),
    isCheat: fc.boolean(),
    delay: fc.constantFrom(0, 0.25, 0.5),
  })
  fc.assert(
    fc.property(scene, ({ freeBytes, steps, isCheat, delay }) => {
      const tariff = { quantumBytes: 1_000, freeBytes }
      const payer = new Payer(tariff, delay)
      const payee = new Payee(tariff)
      const late: number[] = []
      let [sent, accepted, outward, inward] = [0, 0, 0, 0]
      const pay = (isLate: boolean) => {
        while (payer.state() === 'pay' && !isCheat) late.push(payer.pay().acceptedBytes)
        if (!isLate) for (const report of late.splice(0)) payee.handleToken(report)
      }
      pay(false)
      for (const { bytes, isInward, lost, isTokenLate, isAnswered } of steps) {
        const carried = Math.min(bytes, payee.allowance())
        if (isInward) {
          inward += carried
          accepted += Math.max(0, carried - lost)
        } else {
          // The payer stops sending when its probes show that nothing is carried.
          sent += carried
          outward += carried
        }
        payer.handleCounts(sent, accepted)
        payee.handleCounts(outward, inward)
        payer.handleProbe(isAnswered)
        pay(isTokenLate)
        assert.ok(payer.atStake() <= 1_000, `the payer has ${payer.atStake()} at stake`)
        const unpaid = payee.billable() - payee.tokens * 1_000
        assert.ok(unpaid <= 1_000, `the payee has ${unpaid} bytes unpaid`)
      }
      assert.ok(!isCheat || outward + inward <= freeBytes)
    }),
    { seed: 7, numRuns: 500 },
  )
})
