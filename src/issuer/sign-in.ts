// The client's half of accounts: OPAQUE (RFC 9807). The password, and the recovery code, never leave this process.

import type { client } from '@serenity-kit/opaque'
import { HopliteError } from '#api/errors.ts'
import { accountName, bearerOf } from '#credit/bearer.ts'
import type { CredentialKind } from './accounts.ts'
import type { IssuerClient } from './issuer-client.ts'

/** How hard a password is made to guess: Argon2id over it, on the client. */
export type Stretching = 'person' | 'random' | 'test'

/** A generated password of 256 bits needs no stretching; a person's gets 64 MiB and three passes, about 0.2 s. */
const STRETCHING = {
  person: 'memory-constrained',
  random: { 'argon2id-custom': { iterations: 1, memory: 64, parallelism: 1 } },
  test: { 'argon2id-custom': { iterations: 1, memory: 8, parallelism: 1 } },
} as const

export interface Credentials {
  /** The issuer's name, which account names are hashed with. */
  readonly issuer: string
  readonly name: string
  readonly password: string
  readonly stretching: Stretching
}

/** Makes an account, with a recovery code when one is given. Throws ISSUER_REFUSED when the name is taken. */
export async function register(client: IssuerClient, credentials: Credentials, recovery?: string): Promise<void> {
  const name = accountName(credentials.issuer, credentials.name)
  const record = await makeRecord(client, credentials, 'password', credentials.password)
  const second = recovery === undefined ? undefined : await makeRecord(client, credentials, 'recovery', recovery)
  await client.ask('register', { name, record, ...(second !== undefined && { recovery: second }) })
}

/** Logs in; the bearer is good for 15 minutes. Throws ISSUER_REFUSED for a wrong name or password. */
export async function logIn(
  client: IssuerClient,
  credentials: Credentials,
  kind: CredentialKind = 'password',
): Promise<{ readonly bearer: string; readonly expiresMs: number }> {
  const opaque = await loadOpaque()
  const { issuer, password, stretching } = credentials
  const { clientLoginState, startLoginRequest } = opaque.startLogin({ password })
  const name = accountName(issuer, credentials.name)
  const { response, state } = await client.ask('startLogin', { name, kind, request: startLoginRequest })
  const keyStretching = STRETCHING[stretching]
  const finished = read(() =>
    opaque.finishLogin({ clientLoginState, loginResponse: response, password, keyStretching }),
  )
  if (finished === undefined)
    throw new HopliteError(
      'ISSUER_REFUSED',
      'log in: wrong name or password',
      'check both; the recovery code can set a new password',
    )
  const { expiresMs } = await client.ask('finishLogin', { state, request: finished.finishLoginRequest })
  return { bearer: bearerOf(finished.sessionKey), expiresMs }
}

/** Sets a new password for the account that a bearer names, by password or recovery code; all its sessions end. */
export async function changePassword(client: IssuerClient, bearer: string, credentials: Credentials): Promise<void> {
  const opaque = await loadOpaque()
  const { password, stretching } = credentials
  const { clientRegistrationState, registrationRequest } = opaque.startRegistration({ password })
  const { response } = await client.ask('startPassword', { request: registrationRequest }, bearer)
  const { registrationRecord } = read(() =>
    opaque.finishRegistration({
      ...{ clientRegistrationState, registrationResponse: response, password },
      keyStretching: STRETCHING[stretching],
    }),
  )
  await client.ask('setPassword', { record: registrationRecord }, bearer)
}

async function makeRecord(
  client: IssuerClient,
  credentials: Credentials,
  kind: CredentialKind,
  password: string,
): Promise<string> {
  const opaque = await loadOpaque()
  const { clientRegistrationState, registrationRequest } = opaque.startRegistration({ password })
  const name = accountName(credentials.issuer, credentials.name)
  const { response } = await client.ask('startRegistration', { name, kind, request: registrationRequest })
  return read(() =>
    opaque.finishRegistration({
      ...{ clientRegistrationState, registrationResponse: response, password },
      keyStretching: STRETCHING[credentials.stretching],
    }),
  ).registrationRecord
}

/** Half a megabyte of code, which is loaded for those who have an account. */
async function loadOpaque(): Promise<typeof client> {
  const opaque = await import('@serenity-kit/opaque')
  await opaque.ready
  return opaque.client
}

/** The library throws at an answer that is no OPAQUE message. */
function read<T>(run: () => T): T {
  try {
    return run()
  } catch (error) {
    throw new HopliteError(
      'ISSUER_REFUSED',
      'log in: the issuer answered with something else',
      'check the issuer of the configuration',
      error,
    )
  }
}
