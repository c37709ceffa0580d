// Accounts: a name that the client has hashed, an OPAQUE record (RFC 9807), a balance. The issuer never sees a password or a
// recovery code, and what it stores cannot be tried against without its sealed setup.
//
//   register   start (blinded password) ──► finish (record)
//   log in     start ──► finish ──► a session of 15 minutes; its bearer is derived from OPAQUE's key and never sent by us
//   recover    log in with the recovery code, a second record: that session may only set a new password
//
// The state between start and finish travels with the client, sealed: any process of the issuer can go on.

import { createHash } from 'node:crypto'
import * as opaque from '@serenity-kit/opaque'
import { bearerOf } from '#credit/bearer.ts'
import type { Random } from '#crypto/random.ts'
import type { Limits } from './limits.ts'
import { Problem } from './problem.ts'
import type { Seal } from './seal.ts'
import type { Sql } from './sql.ts'

const SESSION_MS = 15 * 60_000
const LOGIN_MS = 60_000
const ACCOUNT_BYTES = 16
const MAX_SESSIONS_PER_ACCOUNT = 20

/** Which of an account's two secrets: what each may do differs. */
export type CredentialKind = 'password' | 'recovery'

export interface Session {
  readonly account: Uint8Array
  readonly kind: CredentialKind
}

interface LoginState {
  readonly name: string
  readonly kind: CredentialKind
  readonly expiresMs: number
  readonly state: string
}

export interface AccountsOptions {
  readonly sql: Sql
  readonly seal: Seal
  readonly limits: Limits
  readonly random: Random
  /** OPAQUE's server setup; every process of an issuer has the same. */
  readonly setup: string
}

/** The server setup of this issuer: the sealed one in the database, made when there is none. */
export async function loadOpaqueSetup(sql: Sql, seal: Seal): Promise<string> {
  await opaque.ready
  const made = seal.seal('opaque setup', Buffer.from(opaque.server.createSetup()))
  await sql.all('INSERT INTO meta VALUES ($1, $2) ON CONFLICT DO NOTHING', ['opaque', made])
  const [row] = await sql.all<{ value: Uint8Array }>('SELECT value FROM meta WHERE name = $1', ['opaque'])
  const opened = row && seal.open('opaque setup', row.value)
  if (opened === undefined) throw new Error("open the issuer's database: another master secret sealed it")
  return Buffer.from(opened).toString()
}

export class Accounts {
  readonly #options: AccountsOptions

  constructor(options: AccountsOptions) {
    this.#options = options
  }

  /** The first answer of a registration, or of a new password. `name` is 64 hex digits. */
  startRegistration(name: string, kind: CredentialKind, request: string): string {
    const { setup } = this.#options
    return hostile('register', () =>
      opaque.server.createRegistrationResponse({
        serverSetup: setup,
        userIdentifier: identifierOf(name, kind),
        registrationRequest: request,
      }),
    ).registrationResponse
  }

  /** Makes an account. Throws Problem: nameTaken, tooMany. */
  async register(name: string, record: string, recovery: string | undefined, now: number): Promise<void> {
    const { sql, limits, random } = this.#options
    this.#checkRecord(name, 'password', record)
    if (recovery !== undefined) this.#checkRecord(name, 'recovery', recovery)
    await limits.count('accountsMade', new Uint8Array(), now)
    const [made] = await sql.all(
      'INSERT INTO accounts (id, name, record, recovery) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING RETURNING balance',
      [random(ACCOUNT_BYTES), Buffer.from(name, 'hex'), record, recovery ?? null],
    )
    if (made === undefined) throw new Problem('nameTaken', 'register: there is an account of this name')
  }

  /** The first answer of a login. A name that nobody has is answered like any other. Throws Problem: tooMany. */
  async startLogin(name: string, kind: CredentialKind, request: string, now: number) {
    const { sql, limits, seal, setup } = this.#options
    await limits.count('loginsPerAccount', Buffer.from(name, 'hex'), now)
    const [row] = await sql.all<{ record: string; recovery: string | null }>(
      'SELECT record, recovery FROM accounts WHERE name = $1',
      [Buffer.from(name, 'hex')],
    )
    const record = kind === 'password' ? row?.record : row?.recovery
    const { serverLoginState, loginResponse } = hostile('log in', () =>
      opaque.server.startLogin({
        serverSetup: setup,
        userIdentifier: identifierOf(name, kind),
        registrationRecord: record ?? null,
        startLoginRequest: request,
      }),
    )
    const state: LoginState = { name, kind, expiresMs: now + LOGIN_MS, state: serverLoginState }
    const sealed = seal.seal('login', Buffer.from(JSON.stringify(state)))
    return { response: loginResponse, state: Buffer.from(sealed).toString('base64url') }
  }

  /** Ends a login: the client may show its bearer until the time given back. Throws Problem: signedOut. */
  async finishLogin(state: string, request: string, now: number): Promise<number> {
    const { sql, seal } = this.#options
    const opened = seal.open('login', Buffer.from(state, 'base64url'))
    const refused = () => new Problem('signedOut', 'log in: wrong name or password, or it took longer than a minute')
    if (opened === undefined) throw refused()
    const login = JSON.parse(Buffer.from(opened).toString()) as LoginState
    if (login.expiresMs < now) throw refused()
    let sessionKey: string
    try {
      sessionKey = opaque.server.finishLogin({ serverLoginState: login.state, finishLoginRequest: request }).sessionKey
    } catch {
      throw refused()
    }
    const expires = now + SESSION_MS
    await sql.transaction(async tx => {
      const [account] = await tx.all<{ id: Uint8Array }>('SELECT id FROM accounts WHERE name = $1', [
        Buffer.from(login.name, 'hex'),
      ])
      if (account === undefined) throw refused()
      await tx.all(
        `DELETE FROM sessions WHERE account = $1 AND id NOT IN (
          SELECT id FROM sessions WHERE account = $1 ORDER BY expires DESC LIMIT $2)`,
        [account.id, MAX_SESSIONS_PER_ACCOUNT - 1],
      )
      await tx.all('INSERT INTO sessions VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING', [
        ...[sessionId(bearerOf(sessionKey)), account.id],
        ...[login.kind, expires],
      ])
    })
    return expires
  }

  /** Whose session a bearer names. Throws Problem: signedOut, notAllowed. */
  async authenticate(bearer: string | undefined, now: number, kinds: readonly CredentialKind[] = ['password']) {
    const [row] =
      bearer === undefined
        ? []
        : await this.#options.sql.all<{ account: Uint8Array; kind: CredentialKind }>(
            'SELECT account, kind FROM sessions WHERE id = $1 AND expires > $2',
            [sessionId(bearer), now],
          )
    if (row === undefined) throw new Problem('signedOut', 'use an account: log in first, sessions last 15 minutes')
    if (!kinds.includes(row.kind))
      throw new Problem('notAllowed', 'use an account: a recovery code may only set a new password')
    return row satisfies Session
  }

  /** Puts a new record in place of the account's, and ends all its sessions. */
  async setPassword(account: Uint8Array, record: string): Promise<void> {
    this.#checkRecord('', 'password', record)
    await this.#options.sql.transaction(async tx => {
      await tx.all('UPDATE accounts SET record = $2 WHERE id = $1', [account, record])
      await tx.all('DELETE FROM sessions WHERE account = $1', [account])
    })
  }

  /** The hashed name of an account, as 64 hex digits. */
  async nameOf(account: Uint8Array): Promise<string> {
    const [row] = await this.#options.sql.all<{ name: Uint8Array }>('SELECT name FROM accounts WHERE id = $1', [
      account,
    ])
    return Buffer.from(row?.name ?? []).toString('hex')
  }

  async logOut(bearer: string): Promise<void> {
    await this.#options.sql.all('DELETE FROM sessions WHERE id = $1', [sessionId(bearer)])
  }

  async sweep(now: number): Promise<void> {
    await this.#options.sql.all('DELETE FROM sessions WHERE expires <= $1', [now])
  }

  /** A record that the library cannot read would make every later login fail: it is tried now. */
  #checkRecord(name: string, kind: CredentialKind, record: string): void {
    const { setup } = this.#options
    const { startLoginRequest } = opaque.client.startLogin({ password: 'probe' })
    hostile('register', () =>
      opaque.server.startLogin({
        serverSetup: setup,
        userIdentifier: identifierOf(name, kind),
        registrationRecord: record,
        startLoginRequest,
      }),
    )
  }
}

function identifierOf(name: string, kind: CredentialKind): string {
  return `${name}:${kind}`
}

/** A stolen table of sessions has no bearer in it. */
function sessionId(bearer: string): Uint8Array {
  return createHash('sha256').update('hoplite session\n').update(bearer).digest()
}

/** The library throws at messages that it cannot read. */
function hostile<T>(action: string, run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new Problem('badRequest', `${action}: the OPAQUE message is malformed`, error)
  }
}
