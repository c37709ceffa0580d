// The issuer's tables. No column holds a name, an address of a person or a connection's address, and none leads from an
// account to the tokens that it withdrew or handed in: requests are remembered by their digests alone.

import type { Sql } from './sql.ts'

const VERSION = 1

const TABLES = `
  CREATE TABLE meta (name TEXT PRIMARY KEY, value BYTES NOT NULL);

  -- One row a token key, for ever: the sums of the audit stand here. Times in ms; secret is sealed, and NULL once expired.
  CREATE TABLE keys (
    number BIGINT PRIMARY KEY,
    encoded BYTES NOT NULL,
    secret BYTES,
    signs_from BIGINT NOT NULL,
    signs_until BIGINT NOT NULL,
    accepted_until BIGINT NOT NULL,
    redeemed_until BIGINT NOT NULL,
    is_live BIGINT NOT NULL DEFAULT 1,
    issued BIGINT NOT NULL DEFAULT 0,
    redeemed BIGINT NOT NULL DEFAULT 0,
    expired BIGINT NOT NULL DEFAULT 0,
    CHECK (issued >= redeemed + expired)
  );

  -- name is a hash that the client makes; record and recovery are OPAQUE's, of no use without the sealed setup.
  CREATE TABLE accounts (
    id BYTES PRIMARY KEY,
    name BYTES NOT NULL UNIQUE,
    record TEXT NOT NULL,
    recovery TEXT,
    balance BIGINT NOT NULL DEFAULT 0 CHECK (balance >= 0)
  );
  CREATE TABLE sessions (id BYTES PRIMARY KEY, account BYTES NOT NULL, kind TEXT NOT NULL, expires BIGINT NOT NULL);
  CREATE INDEX sessions_by_expiry ON sessions (expires);
  CREATE TABLE attempts (subject BYTES NOT NULL, began BIGINT NOT NULL, count BIGINT NOT NULL, PRIMARY KEY (subject, began));

  -- digest: of account, key and blinded messages together.
  CREATE TABLE withdrawals (digest BYTES PRIMARY KEY, key BIGINT NOT NULL, count BIGINT NOT NULL);
  CREATE INDEX withdrawals_by_key ON withdrawals (key);
  -- digest: of account and tokens together; result: a letter a token.
  CREATE TABLE batches (digest BYTES PRIMARY KEY, day BIGINT NOT NULL, result TEXT);
  CREATE TABLE spent (key BIGINT NOT NULL, nonce BYTES NOT NULL, PRIMARY KEY (key, nonce)) COMPACT;

  -- code: the hash of a voucher's code; claim: the hash of code and account, so that a repeated claim is known again.
  CREATE TABLE vouchers (code BYTES PRIMARY KEY, credits BIGINT NOT NULL, expires BIGINT NOT NULL, claim BYTES);
  CREATE TABLE offers (
    id TEXT PRIMARY KEY, processor TEXT NOT NULL, credits BIGINT NOT NULL, price BIGINT NOT NULL, is_open BIGINT NOT NULL
  );
  -- price and received in the processor's smallest unit.
  CREATE TABLE orders (
    id BYTES PRIMARY KEY,
    account BYTES NOT NULL,
    processor TEXT NOT NULL,
    reference TEXT NOT NULL,
    address TEXT NOT NULL,
    credits BIGINT NOT NULL,
    price BIGINT NOT NULL,
    state TEXT NOT NULL,
    received BIGINT NOT NULL DEFAULT 0,
    credited BIGINT NOT NULL DEFAULT 0,
    created BIGINT NOT NULL,
    expires BIGINT NOT NULL,
    UNIQUE (processor, reference)
  );
  CREATE INDEX orders_by_account ON orders (account);
  CREATE TABLE limits (name TEXT PRIMARY KEY, value BIGINT NOT NULL);
  -- What came in from outside, in credits, by source.
  CREATE TABLE totals (name TEXT PRIMARY KEY, credits BIGINT NOT NULL);
`

/** Makes the tables where there are none. Throws when the database is of a newer version than this program. */
export async function prepareSchema(sql: Sql): Promise<void> {
  const [bytes, compact] = sql.dialect === 'sqlite' ? ['BLOB', 'WITHOUT ROWID'] : ['BYTEA', '']
  await sql.transaction(async tx => {
    // Two processes that start together: the second waits here, and then finds the tables.
    if (sql.dialect === 'postgres') await tx.all('SELECT pg_advisory_xact_lock(4871623)')
    await tx.all('CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)')
    const [found] = await tx.all<{ version: number }>('SELECT version FROM schema_version')
    if (found !== undefined) {
      if (found.version !== VERSION)
        throw new Error(`open the issuer's database: version ${found.version}, this program knows ${VERSION}`)
      return
    }
    const text = TABLES.replaceAll(/^\s*--.*$/gm, '')
      .replaceAll(/\bBYTES\b/g, bytes)
      .replaceAll(/\bCOMPACT\b/g, compact)
    for (const one of text.split(';')) if (one.trim() !== '') await tx.all(one)
    await tx.all('INSERT INTO schema_version VALUES ($1)', [VERSION])
    await tx.all(`INSERT INTO totals VALUES ('vouchers', 0), ('orders', 0)`)
  })
}
