// The table of what the issuer can be asked over HTTP: the server, the client and the OpenAPI description are made from it.
// Bytes travel as base64url.

import { z } from 'zod'
import { RSA_BYTES, TOKEN_BYTES } from '#wire/token.ts'
import { MAX_BATCH } from './ledger.ts'
import { PROBLEM_CODES } from './problem.ts'

export interface Endpoint<Body extends z.ZodType = z.ZodType, Answer extends z.ZodType = z.ZodType> {
  readonly method: 'GET' | 'POST'
  readonly path: string
  /** One sentence, for the description. */
  readonly summary: string
  /** Whose session it takes. */
  readonly session: 'none' | 'password' | 'passwordOrRecovery'
  readonly body: Body
  readonly answer: Answer
}

/** A signed directory of 16 keys, with its identity and signature. */
const MAX_DIRECTORY_TEXT = 20_000
const MAX_OPAQUE_TEXT = 2_048

const bytes = (length: number) => base64url(Math.ceil((length * 4) / 3), Math.ceil((length * 4) / 3))
const base64url = (least: number, most: number) =>
  z
    .string()
    .regex(/^[A-Za-z0-9_-]*$/, 'base64url')
    .min(least)
    .max(most)
const name = z.string().regex(/^[0-9a-f]{64}$/, '64 hex digits: the hash of the account name')
const opaque = base64url(1, MAX_OPAQUE_TEXT)
const kind = z.enum(['password', 'recovery'])
const credits = z.number().int().min(0)
const nothing = z.strictObject({})
const order = z.object({
  id: z.string(),
  processor: z.string(),
  address: z.string(),
  credits,
  price: z.number().int(),
  state: z.enum(['open', 'seen', 'paid', 'underpaid', 'expired', 'late']),
  received: z.number().int(),
  credited: credits,
  expiresMs: z.number().int(),
})

/** What every request that fails is answered with. */
export const problemAnswer = z.object({
  error: z.object({ code: z.enum(PROBLEM_CODES), message: z.string() }),
})

function get<A extends z.ZodType>(path: string, summary: string, session: Endpoint['session'], answer: A) {
  return { method: 'GET', path, summary, session, body: nothing, answer } as const
}

function post<B extends z.ZodType, A extends z.ZodType>(
  path: string,
  summary: string,
  session: Endpoint['session'],
  body: B,
  answer: A,
) {
  return { method: 'POST', path, summary, session, body, answer } as const
}

export const ENDPOINTS = {
  health: get('/v1/health', 'Whether the issuer and its database answer.', 'none', z.object({ ok: z.literal(true) })),
  keys: get(
    '/v1/keys',
    "The issuer's token keys, signed (docs/spec/credits.md).",
    'none',
    z.object({ directory: base64url(1, MAX_DIRECTORY_TEXT) }),
  ),
  offers: get(
    '/v1/offers',
    'What credits can be bought for.',
    'none',
    z.object({
      offers: z.array(
        z.object({ id: z.string(), processor: z.string(), credits, price: z.number().int(), unit: z.string() }),
      ),
    }),
  ),
  startRegistration: post(
    '/v1/accounts/start',
    'The first step of making an account (OPAQUE registration).',
    'none',
    z.strictObject({ name, kind, request: opaque }),
    z.object({ response: opaque }),
  ),
  register: post(
    '/v1/accounts',
    'Makes an account from the OPAQUE records of its password and its recovery code.',
    'none',
    z.strictObject({ name, record: opaque, recovery: opaque.optional() }),
    z.object({}),
  ),
  startLogin: post(
    '/v1/login/start',
    'The first step of a login (OPAQUE); an unknown name is answered like any other.',
    'none',
    z.strictObject({ name, kind, request: opaque }),
    z.object({ response: opaque, state: opaque }),
  ),
  finishLogin: post(
    '/v1/login/finish',
    'Ends a login; the bearer is derived from the OPAQUE session key on both sides.',
    'none',
    z.strictObject({ state: opaque, request: opaque }),
    z.object({ expiresMs: z.number().int() }),
  ),
  logOut: post('/v1/logout', 'Ends the session.', 'passwordOrRecovery', nothing, z.object({})),
  startPassword: post(
    '/v1/account/password/start',
    'The first step of setting a new password; a recovery code may do this and nothing else.',
    'passwordOrRecovery',
    z.strictObject({ request: opaque }),
    z.object({ response: opaque }),
  ),
  setPassword: post(
    '/v1/account/password',
    'Sets a new password and ends all sessions.',
    'passwordOrRecovery',
    z.strictObject({ record: opaque }),
    z.object({}),
  ),
  account: get('/v1/account', "The account's balance, in credits.", 'password', z.object({ balance: credits })),
  redeemVoucher: post(
    '/v1/vouchers/redeem',
    "Puts a voucher's credits on the account; repeating it changes nothing.",
    'password',
    z.strictObject({ code: z.string().min(1).max(64) }),
    z.object({ credits, balance: credits }),
  ),
  withdraw: post(
    '/v1/withdraw',
    'Signs blinded messages against the balance; the same request again is paid for once and answered the same.',
    'password',
    z.strictObject({ key: bytes(32), blinded: z.array(bytes(RSA_BYTES)).min(1).max(MAX_BATCH) }),
    z.object({ signatures: z.array(bytes(RSA_BYTES)) }),
  ),
  redeem: post(
    '/v1/redeem',
    'Takes tokens for the balance, each once; the same batch again is answered the same for 30 days.',
    'password',
    z.strictObject({ tokens: z.array(bytes(TOKEN_BYTES)).min(1).max(MAX_BATCH) }),
    z.object({ results: z.array(z.enum(['redeemed', 'spent', 'expired', 'invalid'])), balance: credits }),
  ),
  makeOrder: post(
    '/v1/orders',
    'Orders what an offer offers, and says where to pay.',
    'password',
    z.strictObject({ offer: z.string().min(1).max(64) }),
    order,
  ),
  orders: get('/v1/orders', "The account's orders, newest first.", 'password', z.object({ orders: z.array(order) })),
} as const satisfies Record<string, Endpoint>

export type EndpointName = keyof typeof ENDPOINTS
export type BodyOf<N extends EndpointName> = z.infer<(typeof ENDPOINTS)[N]['body']>
export type AnswerOf<N extends EndpointName> = z.infer<(typeof ENDPOINTS)[N]['answer']>
