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

export async function call<N extends ActionName>(name: N, input: Input<N>): Promise<Output<N>> {
  return (await readJson(await send(`/v1/${name}`, { method: 'POST', body: JSON.stringify(input) }))) as Output<N>
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

/** The names of the actions that the daemon has. */
export async function offered(): Promise<readonly string[]> {
  const document = (await readJson(await send('/v1/openapi.json', {}))) as {
    paths: Record<string, { post?: { operationId: string } }>
  }
  return Object.values(document.paths).flatMap(({ post }) => post?.operationId ?? [])
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
