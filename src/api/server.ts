// The API of a running node: HTTP over a socket that only its owner can open. POST /v1/ACTION with a JSON object.
//
// Answers are 200 with the output, or 4xx/5xx with {"error":{"code","message","advice"}}. Never a stack trace.

import { rmSync } from 'node:fs'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { HopliteError } from './errors.ts'
import { ACTIONS, type ActionName, type Handlers } from './table.ts'

const MAX_BODY_BYTES = 64 * 1024
const MAX_CONNECTIONS = 64

export interface ApiServer {
  close(): Promise<void>
}

/** Serves `handlers` on a Unix socket (0600) or named pipe; a socket left behind by a killed node is replaced. */
export async function serveApi(handlers: Handlers, socket: string): Promise<ApiServer> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    respond(handlers, request)
      .then(({ status, body }) => send(response, status, body))
      .catch(() => response.destroy())
  })
  server.maxConnections = MAX_CONNECTIONS
  if (process.platform !== 'win32') rmSync(socket, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // The socket is made inside `listen`: it is never open to others, not even for a moment.
    const before = process.umask(0o177)
    server.listen(socket, resolve)
    process.umask(before)
  })
  return {
    close: () =>
      new Promise(resolve => {
        server.close(() => resolve())
        server.closeAllConnections()
      }),
  }
}

async function respond(handlers: Handlers, request: IncomingMessage): Promise<{ status: number; body: unknown }> {
  try {
    const name = /^\/v1\/([A-Za-z]{1,40})$/.exec(request.url ?? '')?.[1]
    const isKnown = name !== undefined && Object.hasOwn(ACTIONS, name) && handlers[name as ActionName] !== undefined
    if (!isKnown)
      throw new HopliteError(
        'ACTION_UNKNOWN',
        'carry out an action: this node has none of that name',
        'see: hoplite --help',
      )
    if (request.method !== 'POST')
      throw new HopliteError('REQUEST_INVALID', 'read a request: actions take POST', 'send a JSON object with POST')
    return { status: 200, body: await carryOut(handlers, name as ActionName, await readJson(request)) }
  } catch (error) {
    if (error instanceof HopliteError) {
      const status = error.code === 'ACTION_UNKNOWN' ? 404 : error.code === 'REQUEST_INVALID' ? 400 : 409
      return { status, body: { error: { code: error.code, message: error.message, advice: error.advice } } }
    }
    return {
      status: 500,
      body: {
        error: { code: 'INTERNAL', message: 'carry out an action: it failed inside', advice: 'look into the log' },
      },
    }
  }
}

async function carryOut(handlers: Handlers, name: ActionName, input: unknown): Promise<unknown> {
  const action = ACTIONS[name]
  const parsed = action.input.safeParse(input)
  if (!parsed.success) {
    const problems = parsed.error.issues
      .slice(0, 5)
      .map(issue => `${issue.path.join('.') || 'input'}: ${issue.message}`)
    throw new HopliteError('REQUEST_INVALID', `read the input of ${name}: ${problems.join('; ')}`, 'mend the input')
  }
  const handler = handlers[name] as (input: unknown) => unknown
  return action.output.parse(await handler(parsed.data))
}

async function readJson(request: IncomingMessage): Promise<unknown> {
  const body = await readBody(request)
  if (body === undefined)
    throw new HopliteError('REQUEST_INVALID', 'read a request: its body is too long', 'send at most 64 KiB')
  try {
    return JSON.parse(body.toString('utf8') || '{}')
  } catch {
    throw new HopliteError('REQUEST_INVALID', 'read a request: its body is not JSON', 'send a JSON object')
  }
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

function send(response: ServerResponse, status: number, body: unknown): void {
  const text = JSON.stringify(body)
  const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(text) }
  response.writeHead(status, status === 200 ? headers : { ...headers, connection: 'close' })
  response.end(text)
}
