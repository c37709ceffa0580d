// The API over HTTP, whatever the socket: who calls is decided before.
//
//   POST /v1/ACTION         a JSON object in, 200 with the output, or 4xx/5xx with {"error":{"code","message","advice"}}
//   GET  /v1/events         text/event-stream
//   GET  /v1/openapi.json   what this node offers
//
// Never a stack trace.

import type { IncomingMessage, ServerResponse } from 'node:http'
import type { Permission } from './action.ts'
import { type ErrorCode, HopliteError } from './errors.ts'
import type { EventHub } from './event-hub.ts'
import { openApiDocument } from './openapi.ts'
import { ACTIONS, type ActionName, type Handlers } from './table.ts'

const MAX_BODY_BYTES = 64 * 1024
/** Arrays and objects inside each other: checking a schema goes as deep. */
const MAX_DEPTH = 32
/** A listener that has this much waiting for it is too slow, and is let go. */
const MAX_WAITING_BYTES = 512 * 1024
const PING_MS = 15_000
/** One action has at most this long a name. */
const ACTION_PATH = /^\/v1\/([A-Za-z][A-Za-z0-9.]{0,59})$/
const RANK: Readonly<Record<Permission, number>> = { read: 1, write: 2, person: 3, owner: 4 }

const ADVICE: Readonly<Record<Permission, string>> = {
  read: 'use a token',
  write: 'use a token that may write',
  person: 'use the dashboard: hoplite ui',
  owner: 'use the command line: hoplite',
}

/** What is served: actions and events of one node. */
export interface ApiNode {
  readonly handlers: Handlers
  readonly events: EventHub
}

/** Answers one request with the rights of `permission`; what goes wrong is told to the caller, never thrown. */
export async function handleApi(
  node: ApiNode,
  permission: Permission,
  request: IncomingMessage,
  response: ServerResponse,
): Promise<void> {
  try {
    const path = request.url ?? ''
    if (request.method === 'GET' && path === '/v1/events') return streamEvents(node.events, response)
    if (request.method === 'GET' && path === '/v1/openapi.json')
      return sendJson(response, 200, openApiDocument(Object.keys(node.handlers) as ActionName[]))
    const name = ACTION_PATH.exec(path)?.[1]
    const isKnown =
      name !== undefined && Object.hasOwn(ACTIONS, name) && node.handlers[name as ActionName] !== undefined
    if (!isKnown)
      throw new HopliteError(
        'ACTION_UNKNOWN',
        'carry out an action: this node has none of that name',
        'see: hoplite call --help',
      )
    if (request.method !== 'POST')
      throw new HopliteError('REQUEST_INVALID', 'read a request: actions take POST', 'send a JSON object with POST')
    mayOrThrow(name as ActionName, permission)
    sendJson(response, 200, await carryOut(node.handlers, name as ActionName, await readJson(request)))
  } catch (error) {
    sendError(response, error)
  }
}

/** Sends `body` as JSON; a refusal ends the connection, so that what is left of its request is not read. */
export function sendJson(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body)
  response.statusCode = status
  response.setHeader('content-type', 'application/json')
  response.setHeader('content-length', Buffer.byteLength(text))
  response.setHeader('cache-control', 'no-store')
  if (status !== 200) response.setHeader('connection', 'close')
  response.end(text)
}

/** Sends an expected failure with its code, and of a bug nothing but that there is one. */
export function sendError(response: ServerResponse, error: unknown): void {
  if (response.headersSent) return void response.destroy()
  const { code, message, advice } =
    error instanceof HopliteError
      ? error
      : { code: 'INTERNAL' as const, message: 'carry out an action: it failed inside', advice: 'look into the log' }
  sendJson(response, statusOf(code), { error: { code, message, advice } })
}

function statusOf(code: ErrorCode): number {
  switch (code) {
    case 'REQUEST_INVALID':
      return 400
    case 'NOT_SIGNED_IN':
      return 401
    case 'NOT_ALLOWED':
      return 403
    case 'ACTION_UNKNOWN':
      return 404
    case 'LIMIT_REACHED':
      return 429
    case 'INTERNAL':
      return 500
    default:
      return 409
  }
}

function mayOrThrow(name: ActionName, permission: Permission): void {
  const wanted = ACTIONS[name].permission
  if (RANK[permission] >= RANK[wanted]) return
  const advice = ADVICE[wanted]
  throw new HopliteError('NOT_ALLOWED', `carry out ${name}: it needs the permission ${wanted}`, advice)
}

async function carryOut(handlers: Handlers, name: ActionName, input: unknown): Promise<unknown> {
  const action = ACTIONS[name]
  const parsed = action.input.safeParse(input)
  if (!parsed.success) {
    const problems = parsed.error.issues
      .slice(0, 5)
      .map(issue => `${clip(issue.path.join('.')) || 'input'}: ${clip(issue.message)}`)
    throw new HopliteError('REQUEST_INVALID', `read the input of ${name}: ${problems.join('; ')}`, 'mend the input')
  }
  const handler = handlers[name] as (input: unknown) => unknown
  return action.output.parse(await handler(parsed.data))
}

/** Reads the body as JSON; throws REQUEST_INVALID. */
export async function readJson(request: IncomingMessage): Promise<unknown> {
  const body = await readBody(request)
  if (body === undefined)
    throw new HopliteError('REQUEST_INVALID', 'read a request: its body is too long', 'send at most 64 KiB')
  const text = body.toString('utf8') || '{}'
  if (depthOf(text) > MAX_DEPTH)
    throw new HopliteError('REQUEST_INVALID', 'read a request: its body is nested too deep', 'send a plain JSON object')
  try {
    return JSON.parse(text)
  } catch {
    throw new HopliteError('REQUEST_INVALID', 'read a request: its body is not JSON', 'send a JSON object')
  }
}

/** How deep brackets stand inside each other; those in strings do not count. */
function depthOf(text: string): number {
  let depth = 0
  let most = 0
  for (const [token] of text.matchAll(/"(?:[^"\\]|\\.)*"|[[{\]}]/g)) {
    if (token === '[' || token === '{') most = Math.max(most, ++depth)
    else if (token === ']' || token === '}') depth--
  }
  return most
}

/** The body; `undefined` when it is too long. What follows is read and forgotten, so that the answer arrives. */
function readBody(request: IncomingMessage): Promise<Buffer | undefined> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = []
    let length = 0
    request.on('data', (chunk: Buffer) => {
      length += chunk.length
      if (length <= MAX_BODY_BYTES) chunks.push(chunk)
      else resolve(undefined)
    })
    request.on('end', () => resolve(Buffer.concat(chunks)))
    request.on('error', reject)
  })
}

function streamEvents(events: EventHub, response: ServerResponse): void {
  if (events.isFull)
    throw new HopliteError(
      'LIMIT_REACHED',
      'tell events: as many listen already as may',
      'close a dashboard, or try later',
    )
  response.setHeader('content-type', 'text/event-stream')
  response.setHeader('cache-control', 'no-store')
  response.flushHeaders()
  const send = (frame: string) => {
    if (response.writableLength > MAX_WAITING_BYTES) response.destroy()
    else response.write(frame)
  }
  const stop = events.listen(send)
  if (stop === undefined) return void response.destroy()
  const ping = setInterval(() => send(': ping\n\n'), PING_MS)
  response.on('error', () => {})
  response.on('close', () => {
    clearInterval(ping)
    stop()
  })
}

function clip(text: string): string {
  return text.length > 120 ? `${text.slice(0, 120)}…` : text
}
