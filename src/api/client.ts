// The typed client of a running node.

import { request } from 'node:http'
import { ERROR_CODES, type ErrorCode, HopliteError } from './errors.ts'
import { ACTIONS, type ActionName, type Input, type Output } from './table.ts'

const MAX_ANSWER_BYTES = 4 * 1024 * 1024
const TIMEOUT_MS = 10_000

/** Carries out an action of the node behind `socket`; throws DAEMON_NOT_RUNNING, or the error that the node gave. */
export async function callAction<N extends ActionName>(socket: string, name: N, input: Input<N>): Promise<Output<N>> {
  const { status, text } = await post(socket, `/v1/${name}`, JSON.stringify(input))
  let body: unknown
  try {
    body = JSON.parse(text)
  } catch {
    throw notRunning('it does not answer as a Hoplite node does')
  }
  if (status === 200) return ACTIONS[name].output.parse(body) as Output<N>
  const { code, message, advice } =
    (body as { error?: { code?: string; message?: string; advice?: string } }).error ?? {}
  const known: ErrorCode = ERROR_CODES.find(known => known === code) ?? 'INTERNAL'
  throw new HopliteError(known, message ?? 'carry out an action: it failed', advice ?? 'look into the log')
}

function post(socketPath: string, path: string, body: string): Promise<{ status: number; text: string }> {
  return new Promise((resolve, reject) => {
    const options = { socketPath, path, method: 'POST', agent: false, headers: { 'content-type': 'application/json' } }
    const sent = request({ ...options, timeout: TIMEOUT_MS }, response => {
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
    sent.on('error', (error: NodeJS.ErrnoException) => reject(notRunning(error.code ?? error.message)))
    sent.end(body)
  })
}

function notRunning(why: string): HopliteError {
  return new HopliteError('DAEMON_NOT_RUNNING', `reach the daemon: ${why}`, 'start it with: hoplite up')
}
