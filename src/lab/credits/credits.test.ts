// Credits as a whole, driven at random: wallets, relays and issuers, honest and cheating, with requests and answers lost,
// crashes and time passing. After each step every credit is somewhere, once.

import assert from 'node:assert/strict'
import { constants, sign } from 'node:crypto'
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import fc from 'fast-check'
import { epochOf } from '#credit/epoch.ts'
import { type IssuerKeys, refuseToken, signingKey } from '#credit/keys.ts'
import { SpentFilter } from '#credit/spent-filter.ts'
import { emptyWallet, restoredWallet, Wallet, type WalletState, type WalletToken } from '#credit/wallet.ts'
import { decodeWallet, encodeWallet } from '#credit/wallet-file.ts'
import { type Random, seededRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { Issuer } from '#issuer/issuer.ts'
import { digestOf } from '#issuer/ledger.ts'
import { Problem } from '#issuer/problem.ts'
import type { Sql } from '#issuer/sql.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { EarningsStore } from '#platform/state/earnings-store.ts'
import { decodeToken, encodeToken, tokenInput } from '#wire/token.ts'
import { makeAccount, TEST_START_MS } from './test-issuer.ts'

const WORLDS = 25
const ISSUERS = 4
const WALLETS = 32
const RELAYS = 4
const CREDITS = 10
const DAY = 86_400_000

const root = mkdtempSync(path.join(tmpdir(), 'hoplite-credits-'))
after(() => rmSync(root, { recursive: true, force: true }))

const step = fc.record({
  what: fc.constantFrom(
    ...(['withdraw', 'withdraw', 'pay', 'pay', 'pay', 'pay', 'payTwice', 'deposit', 'handIn', 'handIn'] as const),
    ...(['crashWallet', 'crashRelay', 'restoreBackup', 'days'] as const),
  ),
  who: fc.nat(WALLETS - 1),
  to: fc.nat(RELAYS - 1),
  by: fc.nat(ISSUERS - 1),
  count: fc.integer({ min: 1, max: 4 }),
  lost: fc.constantFrom('nothing', 'nothing', 'nothing', 'request', 'answer'),
})
type Step = typeof step extends fc.Arbitrary<infer Value> ? Value : never

test('a thousand wallets, relays and issuers, and no credit is ever lost or made', async () => {
  let number = 0
  const steps = fc.array(step, { minLength: 40, maxLength: 80 })
  await fc.assert(
    fc.asyncProperty(steps, async list => {
      const world = await World.make(path.join(root, `world-${number++}`))
      try {
        for (const one of list) {
          await world.run(one)
          assert.equal(await world.missing(), 0, `after ${one.what}, ${one.lost} lost`)
        }
      } finally {
        await world.close()
      }
    }),
    { seed: 20_260_105, numRuns: WORLDS, endOnFailure: true },
  )
})

class LostAnswer extends Error {}

interface Relay {
  readonly directory: string
  readonly account: Uint8Array
  store: EarningsStore
  filter: SpentFilter
}

interface Person {
  wallet: Wallet
  /** What stands on the disk. */
  saved: string
  /** What was there some time before: a backup. */
  backup: string
  readonly account: Uint8Array
}

class World {
  readonly #sql: Sql
  readonly #issuers: readonly Issuer[]
  readonly #people: Person[] = []
  readonly #relays: Relay[] = []
  readonly #random: Random = seededRandom('credits')
  #now = TEST_START_MS

  static async make(directory: string): Promise<World> {
    const sql = openSqlite(':memory:')
    const options = { sql, name: 'issuer.example', identity: generateIdentity(), master: new Uint8Array(32) }
    const issuers: Issuer[] = []
    for (let i = 0; i < ISSUERS; i++) issuers.push(await Issuer.open(options, TEST_START_MS))
    const world = new World(sql, issuers)
    const [issuer] = world.#issuers
    if (issuer === undefined) throw new Error('there is no issuer')
    for (let i = 0; i < WALLETS; i++) {
      const wallet = new Wallet(emptyWallet(issuer.id, { name: `${i}`, password: '' }))
      const saved = encodeWallet(wallet.state)
      world.#people.push({ wallet, saved, backup: saved, account: await makeAccount(issuer, sql, CREDITS) })
    }
    for (let i = 0; i < RELAYS; i++) {
      const own = path.join(directory, `relay-${i}`)
      mkdirSync(own, { recursive: true })
      const store = new EarningsStore(own)
      const filter = new SpentFilter(store, world.#random(16), 1_024)
      world.#relays.push({ directory: own, store, filter, account: await makeAccount(issuer, sql) })
    }
    return world
  }

  private constructor(sql: Sql, issuers: readonly Issuer[]) {
    this.#sql = sql
    this.#issuers = issuers
  }

  async close(): Promise<void> {
    for (const { store } of this.#relays) store.close()
    await this.#sql.close()
  }

  async run({ what, who, to, by, count, lost }: Step): Promise<void> {
    const person = this.#people[who] as Person
    const relay = this.#relays[to] as Relay
    const issuer = this.#issuers[by] as Issuer
    try {
      switch (what) {
        case 'withdraw':
          return await this.#withdraw(person, issuer, count, lost)
        case 'pay':
          return await this.#pay(person, [relay], lost)
        case 'payTwice':
          return await this.#pay(person, [relay, this.#relays[(to + 1) % RELAYS] as Relay], lost)
        case 'deposit':
          return await this.#deposit(person, issuer, count, lost)
        case 'handIn':
          return await this.#handIn(relay, issuer, lost)
        case 'crashWallet':
          person.wallet = new Wallet(stateOf(person.saved))
          return
        case 'crashRelay':
          relay.store.close()
          relay.store = new EarningsStore(relay.directory)
          relay.filter = new SpentFilter(relay.store, this.#random(16), 1_024)
          return
        case 'restoreBackup':
          // The old state comes back. What was withdrawn since would be its owner's loss: it goes to the account before.
          if (person.wallet.state.withdrawal !== undefined || stateOf(person.backup).withdrawal !== undefined) return
          person.wallet = new Wallet(person.wallet.state)
          for (let i = 0; i < 3; i++) await this.#deposit(person, issuer, 256, 'nothing')
          person.wallet = new Wallet(restoredWallet(stateOf(person.backup), this.#now))
          return this.#save(person)
        case 'days':
          this.#now += count * 4 * DAY
          for (const one of this.#issuers) await one.tend(this.#now)
      }
    } catch (error) {
      if (!(error instanceof LostAnswer) && !(error instanceof Problem)) throw error
    }
  }

  /** Credits that are missing from where they should be; below 0 when there are some too many. */
  async missing(): Promise<number> {
    const [issuer] = this.#issuers as readonly [Issuer]
    const { faults, keys } = await issuer.ledger.audit()
    assert.deepEqual(faults, [])
    const spent = new Set((await this.#sql.all<{ nonce: Uint8Array }>('SELECT nonce FROM spent')).map(nonceOf))
    const live = (await issuer.keys.directory(this.#now)).keys
    const unspent = new Set<string>()
    const add = (token: { readonly nonce: Uint8Array; readonly keyId: Uint8Array }) => {
      const key = live.keys.get(Buffer.from(token.keyId).toString('hex'))
      if (key !== undefined && key.redeemedUntilMs >= this.#now && !spent.has(nonceOf(token)))
        unspent.add(nonceOf(token))
    }
    let paidFor = 0
    for (const { wallet, account } of this.#people) {
      const { tokens, hand, doubtful, deposit = [], withdrawal } = wallet.state
      for (const token of [...tokens, ...hand, ...doubtful, ...deposit]) add(token)
      if (withdrawal === undefined) continue
      const digest = digestOf('withdrawal', account, withdrawal.keyId, ...withdrawal.items.map(item => item.message))
      const [row] = await this.#sql.all<{ count: number }>('SELECT count FROM withdrawals WHERE digest = $1', [digest])
      paidFor += row?.count ?? 0
    }
    for (const { store } of this.#relays)
      for (const bytes of [...store.waiting()]) add(decodeToken(bytes) ?? assert.fail('a relay keeps what is no token'))
    const outstanding = keys.reduce((sum, key) => sum + key.outstanding, 0)
    return outstanding - unspent.size - paidFor
  }

  async #withdraw(person: Person, issuer: Issuer, count: number, lost: Step['lost']): Promise<void> {
    const { wallet, account } = person
    const { keys } = await issuer.keys.directory(this.#now)
    if (wallet.state.withdrawal === undefined) {
      const key = signingKey(keys, this.#now) ?? assert.fail('no key signs')
      const items = Array.from({ length: count }, () => ({
        nonce: this.#random(32),
        message: this.#random(256).with(0, 1),
        inverse: new Uint8Array(256),
      }))
      wallet.beginWithdrawal({ keyId: key.id, acceptedUntilMs: key.acceptedUntilMs, items })
      this.#save(person)
    }
    const { withdrawal } = wallet.state
    if (withdrawal === undefined) return
    try {
      const messages = withdrawal.items.map(({ message }) => message)
      await asking(lost, () => issuer.withdraw(account, withdrawal.keyId, messages, this.#now))
    } catch (error) {
      if (error instanceof Problem) wallet.dropWithdrawal()
      this.#save(person)
      throw error
    }
    const ring = (await issuer.keys.find(withdrawal.keyId, this.#now)) ?? assert.fail('the key is gone')
    // What blinding would give, without its 40 ms: the signature of the token itself.
    const tokens = withdrawal.items.map(({ nonce }): WalletToken => {
      const fields = { nonce, challengeDigest: keys.challengeDigest, keyId: withdrawal.keyId }
      const options = { key: ring.secret, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 48 }
      const authenticator = sign('sha384', tokenInput(fields), options)
      return { ...fields, authenticator, acceptedUntilMs: withdrawal.acceptedUntilMs }
    })
    wallet.finishWithdrawal(tokens, this.#now)
    this.#save(person)
  }

  async #pay(person: Person, relays: readonly Relay[], lost: Step['lost']): Promise<void> {
    const { wallet } = person
    if (wallet.takeInHand(4, this.#now) === 0) return
    this.#save(person)
    const token = wallet.show() ?? assert.fail('the hand is empty')
    const { keys } = await (this.#issuers[0] as Issuer).keys.directory(this.#now)
    let isTaken = false
    if (lost !== 'request') for (const relay of relays) isTaken = this.#take(relay, token, keys) || isTaken
    if (lost === 'nothing' && isTaken) wallet.settle(token, this.#now)
    else wallet.doubt(token)
    this.#save(person)
  }

  #take({ store, filter }: Relay, token: WalletToken, keys: IssuerKeys): boolean {
    if (refuseToken(token, keys, this.#now) !== undefined || filter.has(token.keyId, token.nonce)) return false
    const ends = keys.keys.get(Buffer.from(token.keyId).toString('hex'))?.redeemedUntilMs ?? 0
    if (!store.add(token.keyId, token.nonce, encodeToken(token), epochOf(this.#now), ends)) return false
    filter.add(token.keyId, token.nonce)
    return true
  }

  async #deposit(person: Person, issuer: Issuer, count: number, lost: Step['lost']): Promise<void> {
    const { wallet, account } = person
    if (wallet.beginDeposit(count) === 0) return
    this.#save(person)
    const tokens = (wallet.state.deposit ?? []).map(encodeToken)
    const results = await asking(lost, () => issuer.redeem(account, tokens, this.#now))
    wallet.finishDeposit(results.filter(result => result === 'redeemed').length, this.#now)
    this.#save(person)
  }

  async #handIn({ store, account }: Relay, issuer: Issuer, lost: Step['lost']): Promise<void> {
    const batch = store.batch()
    if (batch.length === 0) return
    const results = await asking(lost, () => issuer.redeem(account, batch, this.#now))
    store.finish(results.map(result => result === 'redeemed'))
  }

  #save(person: Person): void {
    if ((this.#random(1)[0] ?? 0) < 64) person.backup = person.saved
    person.saved = encodeWallet(person.wallet.state)
  }
}

/** A request on a bad network: it may not arrive, or be carried out and not be answered. */
async function asking<T>(lost: Step['lost'], run: () => Promise<T>): Promise<T> {
  if (lost === 'request') throw new LostAnswer()
  const answer = await run()
  if (lost === 'answer') throw new LostAnswer()
  return answer
}

function stateOf(text: string): WalletState {
  return decodeWallet(text) ?? assert.fail('a wallet does not read what it wrote')
}

function nonceOf({ nonce }: { readonly nonce: Uint8Array }): string {
  return Buffer.from(nonce).toString('hex')
}
