// One suite that both stores must pass: SQLite in a file, and PostgreSQL in a cluster of its own. Two issuers on one
// database stand for two processes.

import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, type TestContext, test } from 'node:test'
import { refuseToken } from '#credit/keys.ts'
import { seededRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { type PostgresCluster, postgresPrograms, startPostgres } from '#lab/credits/postgres.ts'
import { makeAccount, TEST_START_MS, withdrawTokens } from '#lab/credits/test-issuer.ts'
import { skipUnless } from '#lab/skip.ts'
import { decodeToken } from '#wire/token.ts'
import { Issuer } from './issuer.ts'
import type { Payment, PaymentProcessor } from './payments.ts'
import { openPostgres } from './postgres.ts'
import { Problem } from './problem.ts'
import { type Sql, StoreError } from './sql.ts'
import { openSqlite } from './sqlite.ts'

const DAY = 86_400_000
const NOW = TEST_START_MS
const root = mkdtempSync(path.join(tmpdir(), 'hoplite-issuer-'))
let cluster: PostgresCluster | undefined
let files = 0
after(async () => {
  await cluster?.stop()
  rmSync(root, { recursive: true, force: true })
})

/** A new, empty database; calling the result opens it, as often as there are processes. */
const STORES: Record<string, (t: TestContext) => Promise<(() => Sql) | undefined>> = {
  SQLite: async () => {
    const file = path.join(root, `issuer-${++files}.db`)
    return () => openSqlite(file)
  },
  PostgreSQL: async t => {
    const programs = postgresPrograms()
    if (skipUnless(t, programs !== undefined, 'PostgreSQL is not installed', { tool: 'postgresql' })) return undefined
    cluster ??= await startPostgres(programs ?? '')
    const url = cluster.database()
    return () => openPostgres(url)
  },
}

for (const [store, make] of Object.entries(STORES)) {
  const suite = (
    name: string,
    run: (open: (options?: OpenOptions) => Promise<Opened>, t: TestContext) => Promise<void>,
  ) =>
    test(`${store}: ${name}`, async t => {
      const openSql = await make(t)
      if (openSql === undefined) return
      const identity = generateIdentity()
      await run(async ({ wrap = (sql: Sql) => sql, processors = [] }: OpenOptions = {}) => {
        const sql = wrap(openSql())
        const master = new Uint8Array(32).fill(3)
        const issuer = await Issuer.open({ sql, name: 'issuer.example', identity, master, processors }, NOW)
        t.after(() => sql.close())
        return { issuer, sql }
      }, t)
    })

  suite('a withdrawal is paid for once however often it is asked for', async open => {
    const { issuer, sql } = await open()
    const account = await makeAccount(issuer, sql, 10)
    const key = [...(await issuer.keys.directory(NOW)).keys.keys.values()][0] ?? assert.fail()
    const blinded = [randomBytes(256), randomBytes(256)].map(bytes => new Uint8Array(bytes).with(0, 1))
    const answers = await Promise.all([1, 2, 3, 4].map(() => issuer.withdraw(account, key.id, blinded, NOW)))
    for (const answer of answers) assert.deepEqual(answer, answers[0])
    assert.equal(await issuer.ledger.balance(account), 8)
    await assert.rejects(withdrawTokens(issuer, account, 9, NOW), problem('balanceTooLow'))
    await withdrawTokens(issuer, account, 8, NOW)
    assert.equal(await issuer.ledger.balance(account), 0)
    assert.deepEqual((await issuer.ledger.audit()).faults, [])
  })

  suite('of those who hand in the same token at once, on two processes, exactly one is paid', async open => {
    const both = [await open(), await open()] as const
    const [{ issuer, sql }] = both
    const payer = await makeAccount(issuer, sql, 60)
    const relays = await Promise.all([1, 2, 3, 4].map(() => makeAccount(issuer, sql)))
    const tokens = await withdrawTokens(issuer, payer, 60, NOW)
    const random = seededRandom('double spending')
    const claims = relays.map((relay, at) => {
      // Every relay has every token, in batches of its own order.
      const mine = tokens.toSorted(() => (random(1)[0] ?? 0) - 128)
      return [0, 20, 40].map(from => both[at % 2]?.issuer.redeem(relay, mine.slice(from, from + 20), NOW))
    })
    const results = (await Promise.all(claims.flat())).flat()
    assert.equal(results.filter(result => result === 'redeemed').length, 60)
    assert.equal(results.filter(result => result === 'spent').length, 180)
    const balances = await Promise.all(relays.map(relay => issuer.ledger.balance(relay)))
    assert.equal(
      balances.reduce((a, b) => a + b),
      60,
    )
    const audit = await issuer.ledger.audit()
    assert.deepEqual(audit.faults, [])
    assert.equal(audit.keys[0]?.outstanding, 0)
  })

  suite('a batch that is repeated is answered the same and paid once', async open => {
    const { issuer, sql } = await open()
    const account = await makeAccount(issuer, sql, 3)
    const [a, b, c] = (await withdrawTokens(issuer, account, 3, NOW)) as [Uint8Array, Uint8Array, Uint8Array]
    const batch = [a, b, a, a.with(100, 0).with(101, 0)]
    const first = await issuer.redeem(account, batch, NOW)
    assert.deepEqual(first, ['redeemed', 'redeemed', 'spent', 'invalid'])
    assert.deepEqual(await issuer.redeem(account, batch, NOW + DAY), first)
    assert.equal(await issuer.ledger.balance(account), 2)
    const other = await makeAccount(issuer, sql)
    assert.deepEqual(await issuer.redeem(other, batch, NOW), ['spent', 'spent', 'spent', 'invalid'])
    assert.deepEqual(await issuer.redeem(other, [c], NOW), ['redeemed'])
    assert.deepEqual((await issuer.ledger.audit()).faults, [])
  })

  suite('forged tokens, tokens of other keys and issuers, and malformed ones are told apart from spent ones', async open => {
    const { issuer, sql } = await open()
    const account = await makeAccount(issuer, sql, 1)
    const [token = assert.fail()] = await withdrawTokens(issuer, account, 1, NOW)
    const bad = [
      token.with(353, (token[353] ?? 0) ^ 1),
      token.with(2, 9),
      token.with(40, 9),
      token.with(70, 9),
      token.with(1, 1),
    ]
    assert.deepEqual(
      await issuer.redeem(account, bad, NOW),
      bad.map(() => 'invalid'),
    )
    for (const batch of [[], [token.subarray(1)], Array.from({ length: 257 }, () => token)])
      await assert.rejects(issuer.redeem(account, batch, NOW), problem('badRequest'))
    const key = [...(await issuer.keys.directory(NOW)).keys.keys.values()][0] ?? assert.fail()
    await assert.rejects(issuer.withdraw(account, key.id, [new Uint8Array(256).fill(255)], NOW), problem('badRequest'))
    await assert.rejects(
      issuer.withdraw(account, new Uint8Array(32), [new Uint8Array(256)], NOW),
      problem('keyNotSigning'),
    )
    assert.deepEqual(await issuer.redeem(account, [token], NOW), ['redeemed'])
  })

  suite('keys overlap, end and expire, and the books agree at every stage', async open => {
    const { issuer, sql } = await open()
    const second = await open()
    const account = await makeAccount(issuer, sql, 10)
    const [early = assert.fail(), kept = assert.fail()] = await withdrawTokens(issuer, account, 2, NOW)
    await Promise.all([issuer.tend(NOW + 12.5 * DAY), second.issuer.tend(NOW + 12.5 * DAY)])
    const { keys } = await issuer.keys.directory(NOW + 12.5 * DAY)
    const [first, next] = [...keys.keys.values()]
    assert.equal(keys.keys.size, 2, 'two processes made one key between them')
    assert.ok(first !== undefined && next !== undefined && next.signsFromMs < first.signsUntilMs)
    await withdrawTokens(issuer, account, 1, NOW + 13.5 * DAY)
    await assert.rejects(
      issuer.withdraw(account, first.id, [new Uint8Array(256).fill(1)], NOW + 15 * DAY),
      problem('keyNotSigning'),
    )
    assert.deepEqual(
      await issuer.redeem(account, [early], first.acceptedUntilMs + 600_000),
      ['redeemed'],
      'clocks differ',
    )
    assert.deepEqual(await issuer.redeem(account, [kept], first.redeemedUntilMs + 1), ['expired'])
    await Promise.all([issuer, second.issuer].map(one => one.tend(first.redeemedUntilMs + 1)))
    const audit = await issuer.ledger.audit()
    assert.deepEqual(audit.faults, [])
    assert.deepEqual(audit.keys[0], { number: 1, issued: 2, redeemed: 1, expired: 1, outstanding: 0 })
    const [row] = await sql.all<{ secret: unknown }>('SELECT secret FROM keys WHERE number = 1')
    assert.equal(row?.secret, null, 'the private key is gone')
    assert.deepEqual(await issuer.redeem(account, [early, kept], first.redeemedUntilMs + 60_000), [
      'invalid',
      'invalid',
    ])
  })

  suite('of two accounts that redeem a voucher at once, one gets it, and may ask again', async open => {
    const [{ issuer, sql }, second] = [await open(), await open()]
    const accounts = [await makeAccount(issuer, sql), await makeAccount(issuer, sql)] as const
    const [code = '', late = ''] = await issuer.vouchers.make(2, 7, NOW + DAY)
    const results = await Promise.allSettled([
      issuer.vouchers.redeem(accounts[0], code, NOW),
      second.issuer.vouchers.redeem(accounts[1], code, NOW),
    ])
    assert.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected'])
    const winner = accounts[results.findIndex(({ status }) => status === 'fulfilled')] ?? assert.fail()
    assert.equal(await issuer.vouchers.redeem(winner, code, NOW + 2 * DAY), 7)
    assert.equal(await issuer.ledger.balance(winner), 7)
    await assert.rejects(issuer.vouchers.redeem(winner, late, NOW + DAY), problem('voucherExpired'))
    await assert.rejects(
      issuer.vouchers.redeem(winner, '0000-0000-0000-0000-0000-0000', NOW),
      problem('voucherUnknown'),
    )
    await assert.rejects(issuer.vouchers.redeem(winner, "'; DROP TABLE vouchers", NOW), problem('voucherUnknown'))
    assert.deepEqual((await issuer.ledger.audit()).faults, [])
  })

  suite('orders are credited by what arrives, once, however many processes look', async open => {
    const payments = new Map<string, Payment>()
    let invoices = 0
    const processor: PaymentProcessor = {
      ...{ name: 'coins', unit: 'cent', orderMs: 3_600_000 },
      makeInvoice: async () => ({ reference: String(++invoices), address: `place ${invoices}` }),
      payments: async () => payments,
    }
    const [{ issuer, sql }, second] = [await open({ processors: [processor] }), await open({ processors: [processor] })]
    await issuer.orders.setOffer({ id: 'ten', processor: 'coins', credits: 10, price: 100 }, true)
    const account = await makeAccount(issuer, sql)
    const order = () => issuer.orders.make(account, 'ten', NOW)
    const poll = (now: number) =>
      Promise.all([issuer, second.issuer].map(one => one.orders.poll(now, AbortSignal.timeout(9_000))))
    const [paid, under, over, late] = [await order(), await order(), await order(), await order()]
    payments.set('1', { confirmed: 0, pending: 100, firstMs: NOW })
    payments.set('2', { confirmed: 55, pending: 0, firstMs: NOW })
    payments.set('3', { confirmed: 255, pending: 0, firstMs: NOW })
    await poll(NOW + 1_000)
    assert.equal(await issuer.ledger.balance(account), 25, 'two and a half times the price')
    payments.set('1', { confirmed: 100, pending: 0, firstMs: NOW })
    payments.set('4', { confirmed: 100, pending: 0, firstMs: NOW + 2 * DAY })
    await poll(NOW + DAY)
    await poll(NOW + 3 * DAY)
    const states = new Map((await issuer.orders.ofAccount(account)).map(({ id, state }) => [id, state]))
    assert.deepEqual(
      [paid, under, over, late].map(({ id }) => states.get(id)),
      ['paid', 'underpaid', 'paid', 'late'],
    )
    assert.equal(await issuer.ledger.balance(account), 25 + 10 + 5)
    assert.equal(await issuer.orders.creditLate(late.id), 10)
    await poll(NOW + 4 * DAY)
    assert.equal(await issuer.ledger.balance(account), 50)
    assert.deepEqual((await issuer.ledger.audit()).faults, [])
    await assert.rejects(issuer.orders.make(account, 'none', NOW), problem('offerUnknown'))
  })

  suite('a database that fails anywhere, before or after it commits, loses and makes no credit', async open => {
    const random = seededRandom(`faults ${store}`)
    let isFailing = false
    const faulty = await open({ wrap: sql => failing(sql, () => isFailing && (random(1)[0] ?? 0) < 24) })
    const clean = await open()
    const { sql } = clean
    const accounts = await Promise.all([1, 2, 3].map(() => makeAccount(clean.issuer, sql, 200)))
    const pick = <T>(from: readonly T[]) => from[(random(1)[0] ?? 0) % from.length] as T
    const untilDone = async <T>(run: () => Promise<T>): Promise<T> => {
      for (;;) {
        try {
          return await run()
        } catch (error) {
          if (!(error instanceof StoreError)) throw error
          assert.deepEqual((await clean.issuer.ledger.audit()).faults, [])
        }
      }
    }
    let minted = 0
    const redeemed = new Set<Uint8Array>()
    const purse: Uint8Array[] = []
    const key = [...(await clean.issuer.keys.directory(NOW)).keys.keys.values()][0] ?? assert.fail()
    isFailing = true
    for (let step = 0; step < 120; step++) {
      const account = pick(accounts)
      if ((random(1)[0] ?? 0) < 100 || purse.length === 0) {
        const blinded = [new Uint8Array(random(256)).with(0, 1), new Uint8Array(random(256)).with(0, 1)]
        if ((await clean.issuer.ledger.balance(account)) < 4) continue
        await untilDone(() => faulty.issuer.withdraw(account, key.id, blinded, NOW))
        purse.push(...(await withdrawTokens(clean.issuer, account, 2, NOW)))
        minted += 4
      } else {
        const batch = [pick(purse), pick(purse)]
        const results = await untilDone(() => faulty.issuer.redeem(account, batch, NOW))
        for (const [at, result] of results.entries())
          if (result === 'redeemed') redeemed.add(batch[at] ?? assert.fail())
      }
    }
    const audit = await clean.issuer.ledger.audit()
    assert.deepEqual(audit.faults, [])
    assert.equal(audit.keys[0]?.issued, minted)
    assert.equal(audit.keys[0]?.redeemed, redeemed.size)
    assert.equal(audit.balances, 600 - minted + redeemed.size)
  })

  suite('the tables hold no secret that a client has, and nothing that leads from an account to its tokens', async open => {
    const { issuer, sql } = await open()
    const account = await makeAccount(issuer, sql, 5)
    const tokens = await withdrawTokens(issuer, account, 2, NOW)
    await issuer.redeem(account, tokens, NOW)
    const [code = ''] = await issuer.vouchers.make(1, 7, NOW + DAY)
    await issuer.vouchers.redeem(account, code, NOW)
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
    for (const table of [
      'meta',
      'keys',
      'sessions',
      'attempts',
      'withdrawals',
      'batches',
      'spent',
      'vouchers',
      'totals',
    ]) {
      const rows = await sql.all(`SELECT * FROM ${table}`)
      const text = rows
        .map(row => Object.values(row).map(value => (value instanceof Uint8Array ? hex(value) : String(value))))
        .join()
      assert.equal(text.includes(hex(account)), false, `${table} names an account`)
      assert.equal(text.includes(code), false, `${table} has a voucher's code`)
      const hasNonce = tokens.some(token => text.includes(hex(token.subarray(2, 34))))
      assert.equal(hasNonce, table === 'spent', `nonces in ${table}`)
    }
  })
}

test('a full disk is a failure that nothing is lost by, and that ends when there is room', async () => {
  const sql = openSqlite(path.join(root, 'full.db'))
  const issuer = await Issuer.open(
    { sql, name: 'issuer.example', identity: generateIdentity(), master: new Uint8Array(32) },
    NOW,
  )
  const account = await makeAccount(issuer, sql, 2_000)
  const [pages] = await sql.all<{ page_count: number }>('PRAGMA page_count')
  await sql.all(`PRAGMA max_page_count = ${(pages?.page_count ?? 0) + 1}`)
  await assert.rejects(async () => {
    for (let i = 0; i < 20; i++) await issuer.redeem(account, await withdrawTokens(issuer, account, 50, NOW), NOW)
  }, StoreError)
  await sql.all('PRAGMA max_page_count = 100000')
  const [token = assert.fail()] = await withdrawTokens(issuer, account, 1, NOW)
  assert.deepEqual(await issuer.redeem(account, [token], NOW), ['redeemed'])
  assert.deepEqual((await issuer.ledger.audit()).faults, [])
  await sql.close()
})

test('PostgreSQL that goes away in the middle is a failure that nothing is lost by, and that ends when it is back', async t => {
  const programs = postgresPrograms()
  if (skipUnless(t, programs !== undefined, 'PostgreSQL is not installed', { tool: 'postgresql' })) return
  cluster ??= await startPostgres(programs ?? '')
  const url = cluster.database()
  const [sql, other] = [openPostgres(url), openPostgres(url)]
  const issuer = await Issuer.open(
    { sql, name: 'issuer.example', identity: generateIdentity(), master: new Uint8Array(32) },
    NOW,
  )
  t.after(() => Promise.all([sql.close(), other.close()]))
  const account = await makeAccount(issuer, sql, 240)
  const tokens = await withdrawTokens(issuer, account, 240, NOW)
  let redeemed = 0
  let failures = 0
  for (let at = 0; at < tokens.length; at += 20) {
    const batch = tokens.slice(at, at + 20)
    // Every connection of the issuer is cut while it works; the same batch is asked for until it is answered.
    const cut = () =>
      other.all(
        'SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND datname = current_database()',
      )
    for (let isDone = false, tries = 0; !isDone; tries++) {
      const [result] = await Promise.allSettled([issuer.redeem(account, batch, NOW), tries === 0 ? cut() : undefined])
      isDone = result.status === 'fulfilled'
      if (result.status === 'fulfilled') redeemed += result.value.filter(one => one === 'redeemed').length
      else if (result.reason instanceof StoreError) failures++
      else throw result.reason
    }
  }
  assert.equal(redeemed, 240)
  assert.ok(failures > 0, 'some were cut')
  // The last cut may have met connections that nobody used: whoever asks first learns of each.
  const answer = async <T>(ask: () => Promise<T>): Promise<T> => {
    for (;;) {
      try {
        return await ask()
      } catch (error) {
        if (!(error instanceof StoreError)) throw error
      }
    }
  }
  assert.equal(await answer(() => issuer.ledger.balance(account)), 240)
  assert.deepEqual((await answer(() => issuer.ledger.audit())).faults, [])
})

test('clocks ten minutes apart, either way, cost nobody a token', async () => {
  const sql = openSqlite(':memory:')
  const issuer = await Issuer.open(
    { sql, name: 'issuer.example', identity: generateIdentity(), master: new Uint8Array(32) },
    NOW,
  )
  const account = await makeAccount(issuer, sql, 3)
  const { keys } = await issuer.keys.directory(NOW)
  const key = [...keys.keys.values()][0] ?? assert.fail()
  const [bytes = assert.fail()] = await withdrawTokens(issuer, account, 1, NOW)
  const token = decodeToken(bytes) ?? assert.fail()
  const SKEW = 600_000
  assert.equal(refuseToken(token, keys, key.signsFromMs - SKEW), undefined, 'a relay that is late')
  assert.equal(refuseToken(token, keys, key.signsFromMs - SKEW - 1), 'notYet')
  // A relay that is behind takes a token in its last moment, and hands it in a day later.
  assert.equal(refuseToken(token, keys, key.acceptedUntilMs), undefined)
  assert.equal(refuseToken(token, keys, key.acceptedUntilMs + 1), 'expired')
  assert.deepEqual(await issuer.redeem(account, [bytes], key.acceptedUntilMs + SKEW + DAY), ['redeemed'])
  await sql.close()
})

interface OpenOptions {
  readonly wrap?: (sql: Sql) => Sql
  readonly processors?: readonly PaymentProcessor[]
}

interface Opened {
  readonly issuer: Issuer
  readonly sql: Sql
}

function problem(code: Problem['code']): (error: unknown) => boolean {
  return error => error instanceof Problem && error.code === code
}

/** A database that breaks when `breaks` says so: at a statement, before the commit, or after it. */
function failing(sql: Sql, breaks: () => boolean): Sql {
  const check = () => {
    if (breaks()) throw new StoreError(new Error('the cable was pulled'))
  }
  return {
    dialect: sql.dialect,
    close: () => sql.close(),
    all: async (text, values) => {
      check()
      return sql.all(text, values)
    },
    transaction: async (run, isolation) => {
      check()
      const result = await sql.transaction(
        tx =>
          run({
            all: async (text, values) => {
              check()
              const rows = await tx.all(text, values)
              check()
              return rows as never
            },
          }),
        isolation,
      )
      check()
      return result
    },
  }
}
