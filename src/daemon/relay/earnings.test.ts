import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { doubtEntries, epochOf, readEpochStatement } from '#credit/epoch.ts'
import { systemRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { makeAccount, startTestIssuer, type TestIssuer, withdrawTokens } from '#lab/credits/test-issuer.ts'
import { WalletKeeper } from '../wallet/wallet-keeper.ts'
import { Earnings } from './earnings.ts'

const root = mkdtempSync(path.join(tmpdir(), 'hoplite-earnings-'))
after(() => rmSync(root, { recursive: true, force: true }))

test('a relay takes each token once, hands them in, and draws what it earned as new tokens', async t => {
  const { net, tokens, relay, wallet } = await scene(t, 5)
  const [first = assert.fail()] = tokens
  for (const token of tokens) assert.equal(relay.take(token, net.clock.now), undefined)
  assert.equal(relay.take(first, net.clock.now), 'spent')
  assert.equal(relay.take(first.with(353, (first[353] ?? 0) ^ 1), net.clock.now), 'forged')
  assert.equal(relay.take(first.subarray(1), net.clock.now), 'malformed')
  assert.equal(await relay.handIn(), true)
  assert.equal(await relay.handIn(), false)
  assert.deepEqual(relay.counts(), { queued: 0, redeemed: 5, refused: 0 })
  assert.equal(await wallet.withdraw(5), 5)
  assert.notDeepEqual(wallet.state.tokens[0]?.nonce, first.subarray(2, 34))
  const audit = await net.issuer.ledger.audit()
  assert.deepEqual(audit.faults, [])
})

test('what a relay took is there after it was killed, and the batch that was under way is handed in once', async t => {
  const { net, tokens, relay, wallet, directory } = await scene(t, 3)
  for (const token of tokens) relay.take(token, net.clock.now)
  const handIn = wallet.handIn.bind(wallet)
  wallet.handIn = async batch => {
    await handIn(batch)
    throw new Error('killed before the answer was written down')
  }
  await assert.rejects(relay.handIn(), /killed/)
  wallet.handIn = handIn
  const again = await Earnings.open({ directory, wallet, random: systemRandom }, net.clock.now)
  t.after(() => again.close())
  assert.equal(again.take(tokens[0] ?? assert.fail(), net.clock.now), 'spent')
  assert.deepEqual(again.counts(), { queued: 3, redeemed: 0, refused: 0 })
  await again.handIn()
  assert.deepEqual(again.counts(), { queued: 0, redeemed: 3, refused: 0 })
  assert.equal(await wallet.accountBalance(), 3)
})

test('tokens that another relay handed in first are refused, and counted as such', async t => {
  const { net, sql, tokens, relay } = await scene(t, 2)
  await net.issuer.redeem(await makeAccount(net.issuer, sql), tokens.slice(0, 1), net.clock.now)
  for (const token of tokens) relay.take(token, net.clock.now)
  await relay.handIn()
  assert.deepEqual(relay.counts(), { queued: 0, redeemed: 1, refused: 1 })
})

test('an issuer that does not answer is asked again later, after longer and longer waits', async t => {
  const { net, tokens, relay } = await scene(t, 1)
  relay.take(tokens[0] ?? assert.fail(), net.clock.now)
  await net.server.close()
  const waits: number[] = []
  for (let i = 0; i < 4; i++) {
    net.clock.now = relay.deadline()
    assert.match(String(await relay.handleDeadline(net.clock.now)), /ask the issuer/)
    waits.push(relay.deadline() - net.clock.now)
  }
  for (const [i, step] of [5_000, 10_000, 20_000, 40_000].entries()) {
    const wait = waits[i] ?? 0
    assert.ok(wait >= step / 2 && wait <= step * 1.5, `${wait} of ${step}`)
  }
  assert.deepEqual(relay.counts(), { queued: 1, redeemed: 0, refused: 0 })
})

test("a day's total can be shown to anyone", async t => {
  const { net, tokens, relay } = await scene(t, 4)
  for (const token of tokens) relay.take(token, net.clock.now)
  await relay.handIn()
  const epoch = epochOf(net.clock.now)
  const statement = readEpochStatement(relay.statement(epoch, generateIdentity())) ?? assert.fail()
  assert.equal(statement.total, 4)
  const { keys } = await net.issuer.keys.directory(net.clock.now)
  const entries = [0, 1, 2, 3].map(index => relay.entry(epoch, index))
  assert.equal(doubtEntries(statement, entries, keys), undefined)
})

async function scene(t: TestContext, count: number) {
  const sql = openSqlite(':memory:')
  const net: TestIssuer = await startTestIssuer({ sql })
  const directory = mkdtempSync(path.join(root, 'relay-'))
  const tokens = await withdrawTokens(net.issuer, await makeAccount(net.issuer, sql, count), count, net.clock.now)
  const wallet = WalletKeeper.open({
    directory,
    issuerId: net.issuer.id,
    client: net.client(),
    random: systemRandom,
    clock: () => net.clock.now,
    stretching: 'test',
  })
  const relay = await Earnings.open({ directory, wallet, random: systemRandom }, net.clock.now)
  t.after(async () => {
    relay.close()
    await wallet.close()
    await net.close()
  })
  return { net, sql, tokens, wallet, relay, directory }
}
