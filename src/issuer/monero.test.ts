// Real payments: monerod with a chain of its own, a wallet that pays, and the issuer's, which can only look.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { test } from 'node:test'
import { generateIdentity } from '#crypto/signature.ts'
import { startMonero } from '#lab/credits/monero.ts'
import { makeAccount } from '#lab/credits/test-issuer.ts'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { Issuer } from './issuer.ts'
import { moneroProcessor } from './monero.ts'
import { openSqlite } from './sqlite.ts'

const PRICE = 1_000_000_000
const HOUR = 3_600_000

test('orders are paid in Monero: in full, too little, too much, in parts, too late and not at all', async t => {
  const isThere = hasTool('monerod') && hasTool('monero-wallet-rpc')
  if (skipUnless(t, isThere, 'monerod and monero-wallet-rpc are not installed', { tool: 'monero' })) return
  const monero = await startMonero()
  t.after(() => monero.stop())
  const sql = openSqlite(':memory:')
  const processor = moneroProcessor({ walletRpc: monero.walletRpc, confirmations: 10, orderMs: HOUR })
  const master = randomBytes(32)
  const now = Date.now()
  const issuer = await Issuer.open(
    { sql, name: 'issuer.example', identity: generateIdentity(), master, processors: [processor] },
    now,
  )
  t.after(() => issuer.close())
  await issuer.orders.setOffer({ id: 'ten', processor: 'monero', credits: 10, price: PRICE }, true)
  const account = await makeAccount(issuer, sql)
  const order = (at = now) => issuer.orders.make(account, 'ten', at)
  const [paid, under, over, parts, never] = [await order(), await order(), await order(), await order(), await order()]
  const late = await order(now - 3 * HOUR)
  const poll = (at = Date.now()) => issuer.orders.poll(at, AbortSignal.timeout(20_000))
  const state = async () => {
    const orders = new Map((await issuer.orders.ofAccount(account)).map(one => [one.id, one]))
    return [paid, under, over, parts, never, late].map(({ id }) => orders.get(id)?.state)
  }
  assert.equal(new Set([paid, under, over, parts, never, late].map(({ address }) => address)).size, 6)

  await monero.pay(paid.address, PRICE)
  await monero.pay(under.address, PRICE / 2)
  await monero.pay(over.address, 2.5 * PRICE)
  await monero.pay(parts.address, PRICE / 4)
  await monero.pay(late.address, PRICE)
  await monero.mine(1)
  await poll()
  assert.deepEqual(await state(), ['seen', 'seen', 'seen', 'seen', 'open', 'late'])
  assert.equal(await issuer.ledger.balance(account), 0, 'one block is not enough')
  await monero.pay(parts.address, 0.75 * PRICE)
  await monero.mine(11)
  await poll()
  assert.deepEqual(await state(), ['paid', 'seen', 'paid', 'paid', 'open', 'late'])
  assert.equal(await issuer.ledger.balance(account), 10 + 25 + 10)
  await poll(now + 2 * HOUR)
  assert.deepEqual(await state(), ['paid', 'underpaid', 'paid', 'paid', 'expired', 'late'])
  assert.equal(await issuer.ledger.balance(account), 10 + 25 + 10 + 5)
  assert.equal(await issuer.orders.creditLate(late.id), 10)
  await poll(now + 2 * HOUR)
  assert.equal(await issuer.ledger.balance(account), 60)
  assert.deepEqual((await issuer.ledger.audit()).faults, [])
})

test('a wallet that does not answer is a failure of the order, and nothing else', async t => {
  const sql = openSqlite(':memory:')
  const processor = moneroProcessor({ walletRpc: 'http://127.0.0.1:9', confirmations: 10, orderMs: HOUR })
  const issuer = await Issuer.open(
    { sql, name: 'issuer.example', identity: generateIdentity(), master: randomBytes(32), processors: [processor] },
    0,
  )
  t.after(() => issuer.close())
  await issuer.orders.setOffer({ id: 'ten', processor: 'monero', credits: 10, price: PRICE }, true)
  const account = await makeAccount(issuer, sql)
  await assert.rejects(issuer.orders.make(account, 'ten', 0), { code: 'unavailable' })
  assert.deepEqual(await issuer.orders.ofAccount(account), [])
})
