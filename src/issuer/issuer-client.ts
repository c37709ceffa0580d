// Asking an issuer over HTTP, by the table of endpoints. What fails is a coded error: ISSUER_REFUSED when the issuer said no,
// ISSUER_UNREACHABLE when it could not be asked, after some tries.

import { HopliteError } from '#api/errors.ts'
import { type AnswerOf, type BodyOf, ENDPOINTS, type Endpoint, type EndpointName, problemAnswer } from './endpoints.ts'
import type { ProblemCode } from './problem.ts'

const TRY_MS = 20_000
const FIRST_WAIT_MS = 200
const MAX_WAIT_MS = 10_000
const MAX_ANSWER_BYTES = 512 * 1024

/** What this needs of `fetch`, which is one. */
export type Ask = (
  url: URL,
  request: AskRequest,
) => Promise<{
  readonly status: number
  readonly body: AsyncIterable<Uint8Array> | null
}>

export interface AskRequest {
  readonly method: string
  readonly headers: Record<string, string>
  readonly body?: string
  readonly redirect: 'error'
  readonly signal: AbortSignal
}

export interface IssuerClientOptions {
  /** `https://issuer.example` */
  readonly url: string
  /** How many times a request is tried; each waits twice as long as the one before. */
  readonly attempts?: number
  readonly ask?: Ask
  /** Waits for a number of milliseconds; tests pass a quicker one. */
  readonly wait?: (ms: number) => Promise<void>
}

/** The issuer's refusal, with its own code. */
export class IssuerRefusal extends HopliteError {
  readonly problem: ProblemCode

  constructor(problem: ProblemCode, message: string) {
    super('ISSUER_REFUSED', message, ADVICE[problem] ?? 'the message says what to change')
    this.problem = problem
  }
}

export class IssuerClient {
  readonly #options: IssuerClientOptions

  constructor(options: IssuerClientOptions) {
    this.#options = options
  }

  /** Asks; every request may be repeated without harm. Throws ISSUER_REFUSED, ISSUER_UNREACHABLE. */
  async ask<N extends EndpointName>(name: N, body: BodyOf<N>, bearer?: string): Promise<AnswerOf<N>> {
    const { attempts = 5, wait = sleep } = this.#options
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.#askOnce(name, body, bearer)
      } catch (error) {
        if (isFinal(error) || attempt >= attempts) throw error
        await wait(Math.min(FIRST_WAIT_MS * 2 ** (attempt - 1), MAX_WAIT_MS))
      }
    }
  }

  async #askOnce<N extends EndpointName>(name: N, body: BodyOf<N>, bearer?: string): Promise<AnswerOf<N>> {
    const endpoint: Endpoint = ENDPOINTS[name]
    const { url, ask = fetch } = this.#options
    let status: number
    let text: string
    try {
      const response = await ask(new URL(endpoint.path, url), {
        method: endpoint.method,
        headers: {
          ...(endpoint.method === 'POST' && { 'content-type': 'application/json' }),
          ...(bearer !== undefined && { authorization: `Bearer ${bearer}` }),
        },
        ...(endpoint.method === 'POST' && { body: JSON.stringify(body) }),
        redirect: 'error',
        signal: AbortSignal.timeout(TRY_MS),
      })
      status = response.status
      text = await readText(response)
    } catch (error) {
      if (isFinal(error)) throw error
      throw unreachable(url, error instanceof Error ? error.message : 'no answer', error)
    }
    if (status === 200) {
      const answer = endpoint.answer.safeParse(parseJson(text))
      if (answer.success) return answer.data as AnswerOf<N>
      throw unreachable(url, 'its answer is not of the form that this version knows')
    }
    const problem = problemAnswer.safeParse(parseJson(text))
    if (!problem.success || status >= 500) throw unreachable(url, problem.data?.error.message ?? `status ${status}`)
    throw new IssuerRefusal(problem.data.error.code, problem.data.error.message)
  }
}

const ADVICE: Partial<Record<ProblemCode, string>> = {
  balanceTooLow: 'put credits on the account first: hoplite wallet redeem VOUCHER, or hoplite wallet topup',
  keyNotSigning: 'check the clock of this machine, and try again',
  tooMany: 'wait as long as the message says',
  voucherUnknown: 'compare the code with what you were given',
}

function unreachable(url: string, what: string, cause?: unknown): HopliteError {
  return new HopliteError(
    'ISSUER_UNREACHABLE',
    `ask the issuer at ${url}: ${what}`,
    'check the address and the network; what was begun goes on when the issuer answers again',
    cause,
  )
}

/** Whether the same question would fail the same way again. */
function isFinal(error: unknown): boolean {
  return error instanceof HopliteError && error.code !== 'ISSUER_UNREACHABLE'
}

/** The body as text, given up above a bound. */
async function readText(response: Awaited<ReturnType<Ask>>): Promise<string> {
  const chunks: Uint8Array[] = []
  let length = 0
  for await (const chunk of response.body ?? []) {
    length += chunk.length
    if (length > MAX_ANSWER_BYTES) throw new Error('its answer is too long')
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString()
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return undefined
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
