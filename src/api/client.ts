// The typed client of a running node.

import { statSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { ERROR_CODES, type ErrorCode, HopliteError } from './errors.ts'
import { ACTIONS, type ActionName, EVENTS, type EventName, type Input, type Output, type Told } from './table.ts'

const MAX_ANSWER_BYTES = 4 * 1024 * 1024
const TIMEOUT_MS = 10_000
const MAX_FRAME_BYTES = 256 * 1024

/** Carries out an action of the node behind `socket`; throws DAEMON_NOT_RUNNING, or the error that the node gave. */
export async function callAction<N extends ActionName>(
  socket: string,
  name: N,
  input: Input<N>,
  timeoutMs = TIMEOUT_MS,
): Promise<Output<N>> {
  if (isAnothers(socket)) throw notRunning('its socket belongs to another user')
  const { status, text } = await post(socket, `/v1/${name}`, JSON.stringify(input), timeoutMs)
  const body = parseJson(text)
  if (status !== 200) throw errorOf(body)
  const output = ACTIONS[name].output.safeParse(body)
  if (output.success) return output.data as Output<N>
  throw new HopliteError('INTERNAL', `read the answer to ${name}: it is of another version`, 'restart the daemon')
}

/** Events of the node behind `socket` until `signal` is aborted or the node ends; throws DAEMON_NOT_RUNNING. */
export async function* followEvents(socket: string, signal: AbortSignal): AsyncGenerator<Told> {
  if (isAnothers(socket)) throw notRunning('its socket belongs to another user')
  const response = await new Promise<IncomingMessage>((resolve, reject) => {
    const sent = request({ socketPath: socket, path: '/v1/events', agent: false, signal }, resolve)
    sent.on('error', (error: NodeJS.ErrnoException) => reject(notRunning(whyOf(error))))
    sent.end()
  })
  if (response.statusCode !== 200) throw notRunning('it tells no events')
  let rest = ''
  try {
    for await (const chunk of response.setEncoding('utf8')) {
      const frames = (rest + String(chunk)).split('\n\n')
      rest = frames.pop() ?? ''
      if (rest.length > MAX_FRAME_BYTES) return
      for (const frame of frames) {
        const told = parseFrame(frame)
        if (told !== undefined) yield told
      }
    }
  } catch {
    // The node ended, or the caller has heard enough.
  }
}

/** An event that this version knows; undefined for others and for what keeps the connection open. */
function parseFrame(frame: string): Told | undefined {
  const [, name = '', text = ''] = /^event: (\w+)\ndata: (.*)$/.exec(frame) ?? []
  if (!Object.hasOwn(EVENTS, name)) return undefined
  const data = EVENTS[name as EventName].data.safeParse(parseJson(text))
  return data.success ? ({ name, data: data.data } as Told) : undefined
}

/** Whether another user made the socket: a stranger's answers are not believed. */
function isAnothers(socket: string): boolean {
  const self = process.getuid?.()
  if (self === undefined || self === 0) return false
  try {
    return statSync(socket).uid !== self
  } catch {
    return false
  }
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    throw notRunning('it does not answer as a Hoplite node does')
  }
}

function errorOf(body: unknown): HopliteError {
  const given = (body as { error?: { code?: string; message?: string; advice?: string } } | null)?.error
  const code: ErrorCode = ERROR_CODES.find(known => known === given?.code) ?? 'INTERNAL'
  const message = given?.message ?? 'carry out an action: it failed'
  return new HopliteError(code, message, given?.advice ?? 'look into the log')
}

function post(
  socketPath: string,
  path: string,
  body: string,
  timeout: number,
): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { socketPath, path, method: 'POST', agent: false, headers: { 'content-type': 'application/json' } }
    const sent = request({ ...options, timeout }, response => {
      const chunks: Buffer[] = []
      let length = 0
      response.on('data', (chunk: Buffer) => {
        length += chunk.length
        if (length > MAX_ANSWER_BYTES) response.destroy(new Error('too long'))
        else chunks.push(chunk)
      })
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }),
      )
      response.on('error', error => reject(notRunning(error.message)))
    })
    sent.on('timeout', () => sent.destroy(new Error('it does not answer')))
    sent.on('error', (error: NodeJS.ErrnoException) => reject(notRunning(whyOf(error))))
    sent.end(body)
  })
}

function whyOf({ code, message }: NodeJS.ErrnoException): string {
  return code === 'ENOENT' || code === 'ECONNREFUSED' ? 'it does not run' : (code ?? message)
}

function notRunning(why: string): HopliteError {
  return new HopliteError('DAEMON_NOT_RUNNING', `reach the daemon: ${why}`, 'start it with: hoplite up')
}
