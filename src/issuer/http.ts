// The issuer's HTTP face: the table of endpoints over Fastify, with its OpenAPI 3.1 description at /v1/openapi.json. It keeps
// no state and writes nobody's address down.

import fastifySwagger from '@fastify/swagger'
import Fastify, { type FastifyError, type FastifyInstance, type FastifyRequest } from 'fastify'
import { jsonSchemaTransform, serializerCompiler, validatorCompiler } from 'fastify-type-provider-zod'
import type { CredentialKind, Session } from './accounts.ts'
import { type AnswerOf, type BodyOf, ENDPOINTS, type Endpoint, type EndpointName, problemAnswer } from './endpoints.ts'
import type { Issuer } from './issuer.ts'
import { Problem, type ProblemCode } from './problem.ts'
import { StoreError } from './sql.ts'

const MAX_BODY_BYTES = 192 * 1024
const REQUEST_MS = 20_000
const MAX_CONNECTIONS = 2_000
const RETRY_SECONDS = 2

interface Call {
  readonly now: number
  /** Present where the endpoint asks for a session. */
  readonly session: Session
  readonly bearer: string
}

type Handlers = {
  readonly [N in EndpointName]: (body: BodyOf<N>, call: Call) => Promise<AnswerOf<N>>
}

export interface HttpOptions {
  readonly issuer: Issuer
  readonly version: string
  readonly clock: () => number
  /** Told of failures that are ours. */
  readonly onFault: (error: unknown) => void
}

/** The server, ready to listen. */
export async function makeServer(options: HttpOptions): Promise<FastifyInstance> {
  const server = Fastify({
    bodyLimit: MAX_BODY_BYTES,
    requestTimeout: REQUEST_MS,
    connectionTimeout: REQUEST_MS,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
  })
  server.server.maxConnections = MAX_CONNECTIONS
  server.setValidatorCompiler(validatorCompiler)
  server.setSerializerCompiler(serializerCompiler)
  server.setErrorHandler<FastifyError>((error, _request, reply) => {
    const problem = problemOf(error)
    if (problem.status >= 500) options.onFault(error)
    if (problem.code === 'unavailable') reply.header('retry-after', RETRY_SECONDS)
    return reply.status(problem.status).send({ error: { code: problem.code, message: problem.message } })
  })
  server.setNotFoundHandler((_request, reply) =>
    reply.status(404).send({ error: { code: 'notFound', message: 'ask the issuer: /v1/openapi.json has every path' } }),
  )
  await server.register(fastifySwagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'Hoplite issuer',
        version: options.version,
        description: 'Issues and redeems credits: publicly verifiable blind tokens.',
      },
      components: { securitySchemes: { session: { type: 'http', scheme: 'bearer' } } },
    },
    transform: jsonSchemaTransform,
  })
  await server.register(async routes => addRoutes(routes, options))
  server.get('/v1/openapi.json', { schema: { hide: true } }, () => server.swagger())
  await server.ready()
  return server
}

function addRoutes(routes: FastifyInstance, { issuer, clock }: HttpOptions): void {
  const handlers = handlersOf(issuer)
  for (const name of Object.keys(ENDPOINTS) as EndpointName[]) {
    const endpoint: Endpoint = ENDPOINTS[name]
    const handler = handlers[name] as (body: unknown, call: Call) => Promise<unknown>
    routes.route({
      method: endpoint.method,
      url: endpoint.path,
      schema: {
        operationId: name,
        summary: endpoint.summary,
        ...(endpoint.method === 'POST' && { body: endpoint.body }),
        ...(endpoint.session !== 'none' && { security: [{ session: [] }] }),
        response: { 200: endpoint.answer, '4xx': problemAnswer, '5xx': problemAnswer },
      },
      handler: async request => {
        const now = clock()
        const bearer = bearerFrom(request)
        const session = await sessionFor(issuer, endpoint, bearer, now)
        return handler(request.body, { now, session, bearer: bearer ?? '' })
      },
    })
  }
}

function handlersOf(issuer: Issuer): Handlers {
  const { accounts, ledger, orders, vouchers } = issuer
  return {
    health: async () => {
      await issuer.ping()
      return { ok: true }
    },
    keys: async (_, { now }) => ({ directory: toText((await issuer.keys.directory(now)).bytes) }),
    offers: async () => ({ offers: await orders.offers() }),
    startRegistration: async body => ({ response: accounts.startRegistration(body.name, body.kind, body.request) }),
    register: async (body, { now }) => {
      await accounts.register(body.name, body.record, body.recovery, now)
      return {}
    },
    startLogin: (body, { now }) => accounts.startLogin(body.name, body.kind, body.request, now),
    finishLogin: async (body, { now }) => ({ expiresMs: await accounts.finishLogin(body.state, body.request, now) }),
    logOut: async (_, { bearer }) => {
      await accounts.logOut(bearer)
      return {}
    },
    startPassword: async (body, { session }) => ({
      response: accounts.startRegistration(await accounts.nameOf(session.account), 'password', body.request),
    }),
    setPassword: async (body, { session }) => {
      await accounts.setPassword(session.account, body.record)
      return {}
    },
    account: async (_, { session }) => ({ balance: await ledger.balance(session.account) }),
    redeemVoucher: async (body, { session, now }) => {
      const credits = await vouchers.redeem(session.account, body.code, now)
      return { credits, balance: await ledger.balance(session.account) }
    },
    withdraw: async (body, { session, now }) => {
      const blinded = body.blinded.map(fromText)
      const signatures = await issuer.withdraw(session.account, fromText(body.key), blinded, now)
      return { signatures: signatures.map(toText) }
    },
    redeem: async (body, { session, now }) => {
      const results = await issuer.redeem(session.account, body.tokens.map(fromText), now)
      return { results, balance: await ledger.balance(session.account) }
    },
    makeOrder: (body, { session, now }) => orders.make(session.account, body.offer, now),
    orders: async (_, { session }) => ({ orders: await orders.ofAccount(session.account) }),
  }
}

const NOBODY: Session = { account: new Uint8Array(), kind: 'password' }

function sessionFor(issuer: Issuer, endpoint: Endpoint, bearer: string | undefined, now: number): Promise<Session> {
  if (endpoint.session === 'none') return Promise.resolve(NOBODY)
  const kinds: CredentialKind[] = endpoint.session === 'password' ? ['password'] : ['password', 'recovery']
  return issuer.accounts.authenticate(bearer, now, kinds)
}

function bearerFrom(request: FastifyRequest): string | undefined {
  return /^Bearer ([A-Za-z0-9_-]{43})$/i.exec(request.headers.authorization ?? '')?.[1]
}

/** Every failure as the caller sees it. What is ours is not described to strangers. */
function problemOf(error: FastifyError): Problem {
  if (error instanceof Problem) return error
  if (error instanceof StoreError)
    return new Problem('unavailable', 'the issuer cannot reach its database now, try again in a few seconds', error)
  if (error.validation !== undefined)
    return new Problem('badRequest', `the request is not of its form: ${error.message}`)
  const status = error.statusCode ?? 500
  if (status < 400 || status >= 500)
    return new Problem('internal', 'the issuer failed, its operator can see why', error)
  const codes: Record<number, ProblemCode> = { 413: 'tooLarge', 415: 'wrongType' }
  return new Problem(codes[status] ?? 'badRequest', `the request cannot be read: ${error.message}`)
}

function toText(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url')
}

function fromText(text: string): Uint8Array {
  return Buffer.from(text, 'base64url')
}
