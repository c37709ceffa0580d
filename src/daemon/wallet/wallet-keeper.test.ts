import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import type { IssuerClient } from '#issuer/issuer-client.ts'
import { startTestIssuer, type TestIssuer } from '#lab/credits/test-issuer.ts'
import { WalletKeeper } from './wallet-keeper.ts'
import { readWallet, restoreWallet } from './wallet-store.ts'

const root = mkdtempSync(path.join(tmpdir(), 'hoplite-wallet-'))
after(() => rmSync(root, { recursive: true, force: true }))

test('a voucher becomes tokens, tokens are spent, and the rest goes back to the account', async t => {
  const net = await issuer(t)
  const wallet = open(t, net)
  const [code = ''] = await net.issuer.vouchers.make(1, 5, net.clock.now + 1e9)
  assert.equal(await wallet.redeemVoucher(code.toLowerCase().replaceAll('-', ' ')), 5)
  assert.equal(wallet.balance().tokens, 5)
  const token = wallet.show() ?? assert.fail()
  wallet.settle(token)
  assert.equal(await wallet.deposit(100), 4)
  assert.equal(await wallet.accountBalance(), 4)
  assert.deepEqual(wallet.balance(), { tokens: 0, withdrawing: 0, depositing: 0, doubtful: 0 })
  const audit = await net.issuer.ledger.audit()
  assert.deepEqual(audit.faults, [])
  assert.equal(audit.keys[0]?.outstanding, 1)
})

test('a withdrawal whose answer is lost is asked for again, and paid for once', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 3, net.clock.now + 1e9)
  const directory = temporary()
  const lossy = losing(net.client(), 'withdraw')
  const first = open(t, net, { directory, client: lossy })
  await assert.rejects(first.redeemVoucher(code), /lost on the way/)
  assert.equal(first.balance().withdrawing, 3)
  await first.close()
  const second = open(t, net, { directory })
  await second.resume()
  assert.deepEqual(second.balance(), { tokens: 3, withdrawing: 0, depositing: 0, doubtful: 0 })
  assert.equal(await second.accountBalance(), 0)
  assert.deepEqual((await net.issuer.ledger.audit()).faults, [])
})

test('a wallet that dies with tokens in its hand learns from the issuer which were spent', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 4, net.clock.now + 1e9)
  const directory = temporary()
  const first = open(t, net, { directory })
  await first.redeemVoucher(code)
  assert.ok(first.show() !== undefined)
  // The relay hands it in; the wallet is copied as a crash would leave it.
  const relay = open(t, net)
  const state = readWallet(directory) ?? assert.fail()
  assert.equal(state.hand.length, 4)
  const other = temporary()
  restoreWallet(other, state, net.clock.now)
  await relay.accountBalance()
  const again = open(t, net, { directory: other })
  await again.resume()
  assert.equal(again.balance().doubtful, 0)
  assert.equal(await again.accountBalance(), 4, 'nobody had handed the fourth in yet')
})

test('a voucher that was redeemed before is answered the same and changes nothing', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 5, net.clock.now + 1e9)
  const wallet = open(t, net)
  assert.equal(await wallet.redeemVoucher(code), 5)
  assert.equal(await wallet.redeemVoucher(code), 5)
  assert.equal(wallet.balance().tokens, 5)
})

test('tokens go from one wallet to another in no more than one piece', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 5, net.clock.now + 1e9)
  const [from, to] = [open(t, net), open(t, net)]
  await from.redeemVoucher(code)
  await assert.rejects(
    from.takeOut(3, () => {
      throw new Error('the disk is full')
    }),
    /disk/,
  )
  assert.equal(from.balance().tokens, 5)
  let sent: readonly Uint8Array[] = []
  assert.equal(
    await from.takeOut(3, tokens => {
      sent = tokens
    }),
    3,
  )
  assert.equal(from.balance().tokens, 2)
  assert.equal(await to.takeIn(sent), 3)
  assert.equal(await open(t, net).takeIn(sent), 0, 'they are spent')
  assert.equal(to.balance().tokens, 3)
  assert.deepEqual((await net.issuer.ledger.audit()).faults, [])
})

test('tokens near their end are changed for new ones', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 2, net.clock.now + 1e12)
  const wallet = open(t, net)
  await wallet.redeemVoucher(code)
  const before = wallet.state.tokens[0]?.acceptedUntilMs ?? 0
  net.clock.now = before - 86_400_000
  await net.issuer.tend(net.clock.now)
  await wallet.renew()
  assert.equal(wallet.balance().tokens, 2)
  assert.ok((wallet.state.tokens[0]?.acceptedUntilMs ?? 0) > before)
})

test('an account of a name takes what the random one had along, is used from elsewhere, and recovered', async t => {
  const net = await issuer(t)
  const [code = ''] = await net.issuer.vouchers.make(1, 5, net.clock.now + 1e9)
  const [first, second] = [open(t, net), open(t, net)]
  await first.redeemVoucher(code)
  await first.deposit(2)
  await first.createAccount('ada', 'correct horse', 'RECOVERY')
  assert.equal(first.balance().tokens, 5, 'what the random account had was drawn')
  await first.deposit(4)
  await assert.rejects(second.createAccount('ada', 'battery staple', 'OTHER'), { problem: 'nameTaken' })
  await assert.rejects(second.useAccount('ada', 'battery staple'), /wrong name or password/)
  assert.equal(second.state.account.isNamed, undefined, 'it goes on with its own')
  await second.useAccount('ada', 'correct horse')
  assert.equal(await second.withdraw(await second.accountBalance()), 4)
  await assert.rejects(second.recoverAccount('ada', 'battery staple', 'OTHER'), /wrong name or password/)
  await second.recoverAccount('ada', 'battery staple', 'RECOVERY')
  await second.deposit(4)
  await assert.rejects(first.accountBalance(), /wrong name or password/, 'its session has ended with the password')
  assert.equal(await second.accountBalance(), 4)
  assert.deepEqual((await net.issuer.ledger.audit()).faults, [])
})

async function issuer(t: TestContext): Promise<TestIssuer> {
  const started = await startTestIssuer()
  t.after(() => started.close())
  return started
}

function open(
  t: TestContext,
  net: TestIssuer,
  options: { directory?: string; client?: IssuerClient } = {},
): WalletKeeper {
  const wallet = WalletKeeper.open({
    directory: options.directory ?? temporary(),
    issuerId: net.issuer.id,
    client: options.client ?? net.client(),
    random: systemRandom,
    clock: () => net.clock.now,
    stretching: 'test',
  })
  t.after(() => wallet.close())
  return wallet
}

/** The client, which loses the answers to one kind of request. */
function losing(client: IssuerClient, name: string): IssuerClient {
  const ask = client.ask.bind(client)
  client.ask = (async (...args: Parameters<typeof ask>) => {
    const answer = await ask(...args)
    if (args[0] === name) throw new Error('lost on the way')
    return answer
  }) as typeof client.ask
  return client
}

function temporary(): string {
  return mkdtempSync(path.join(root, 'wallet-'))
}
