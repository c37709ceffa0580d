// The typed client of the daemon's API in a browser: the cookie goes by itself, the page's own key is sent beside it.

import type { ActionName, Input, Output, Told } from '#api/table.ts'

const PAGE_KEY = 'hoplite-page'

/** What the daemon refused, with its advice. */
export class ApiError extends Error {
  readonly code: string
  readonly advice: string

  constructor(code: string, message: string, advice: string) {
    super(message)
    this.code = code
    this.advice = advice
  }
}

/** A JSON Schema, as far as forms are made from it. */
export interface JsonSchema {
  readonly type?: string
  readonly enum?: readonly string[]
  readonly properties?: Readonly<Record<string, JsonSchema>>
  readonly required?: readonly string[]
  readonly items?: JsonSchema
  readonly minimum?: number
  readonly maximum?: number
}

/** One action that this daemon offers. */
export interface Offered {
  readonly name: string
  readonly summary: string
  readonly permission: 'read' | 'write' | 'owner'
  readonly input: JsonSchema
}

export function call<N extends ActionName>(name: N, input: Input<N>): Promise<Output<N>> {
  return callAny(name, input) as Promise<Output<N>>
}

/** An action that this version of the dashboard may not know. */
export async function callAny(name: string, input: unknown): Promise<unknown> {
  return readJson(await send(`/v1/${name}`, { method: 'POST', body: JSON.stringify(input) }))
}

/** Trades the code of the link for a session; false when it was used before. */
export async function login(code: string): Promise<boolean> {
  const response = await fetch('/login', {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ code }),
  })
  if (!response.ok) return false
  const { page } = (await response.json()) as { page: string }
  localStorage.setItem(PAGE_KEY, page)
  return true
}

/** The actions that the daemon has. */
export async function offered(): Promise<readonly Offered[]> {
  const document = (await readJson(await send('/v1/openapi.json', {}))) as {
    paths: Record<string, { post?: Record<string, unknown> }>
  }
  return Object.values(document.paths).flatMap(({ post }) => {
    if (post === undefined) return []
    const body = post['requestBody'] as { content: { 'application/json': { schema: JsonSchema } } }
    return [
      {
        name: String(post['operationId']),
        summary: String(post['summary']),
        permission: post['x-permission'] as Offered['permission'],
        input: body.content['application/json'].schema,
      },
    ]
  })
}

/** Hears events until `signal` is aborted or the connection ends. */
export async function listen(onEvent: (told: Told) => void, signal: AbortSignal): Promise<void> {
  const response = await send('/v1/events', { signal })
  const reader = response.body?.pipeThrough(new TextDecoderStream()).getReader()
  if (!response.ok || reader === undefined) throw await errorOf(response)
  let rest = ''
  for (;;) {
    const { done, value } = await reader.read()
    if (done) return
    const frames = (rest + value).split('\n\n')
    rest = frames.pop() ?? ''
    for (const frame of frames) {
      const [, name, data] = /^event: (\w+)\ndata: (.*)$/.exec(frame) ?? []
      if (name !== undefined && data !== undefined) onEvent({ name, data: JSON.parse(data) } as Told)
    }
  }
}

function send(path: string, init: RequestInit): Promise<Response> {
  const headers = { 'content-type': 'application/json', 'x-hoplite-page': localStorage.getItem(PAGE_KEY) ?? '' }
  return fetch(path, { ...init, headers })
}

async function readJson(response: Response): Promise<unknown> {
  if (!response.ok) throw await errorOf(response)
  return response.json()
}

async function errorOf(response: Response): Promise<ApiError> {
  const body = (await response.json().catch(() => undefined)) as
    | { error?: { code: string; message: string; advice: string } }
    | undefined
  const { code = 'INTERNAL', message = `status ${response.status}`, advice = '' } = body?.error ?? {}
  return new ApiError(code, message, advice)
}
