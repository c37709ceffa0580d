// What the daemon tells, kept for every page: one state, changed as a whole, and who wants to know of it.
//
//   loading ──► online ◄──► offline        (the daemon answers, or not)
//      └──────────► signedOut              (no session: the link was not opened)

import { useEffect, useState } from 'preact/hooks'
import type { ActionName, EventData, Output, Told } from '#api/table.ts'
import { ApiError, call, listen, login, offered } from './api.ts'

const HISTORY_SECONDS = 300
const MAX_LINES = 500
const FIRST_RETRY_MS = 500
const MAX_RETRY_MS = 8_000
const STATUS_MS = 5_000

export interface Live {
  readonly phase: 'loading' | 'online' | 'offline' | 'signedOut'
  readonly offered: readonly string[]
  readonly status?: Output<'status'>
  readonly route?: EventData<'route'>
  readonly rtt?: EventData<'rtt'>
  readonly now?: EventData<'throughput'>
  /** Seconds (Unix), bytes received and sent in each. */
  readonly history: readonly [readonly number[], readonly number[], readonly number[]]
  readonly lines: readonly EventData<'log'>[]
  readonly failover?: EventData<'failover'> & { readonly at: number }
}

let live: Live = { phase: 'loading', offered: [], history: [[], [], []], lines: [] }
const watchers = new Set<() => void>()
let stop: AbortController | undefined

/** The state as it is now; the component is drawn again when it changes. */
export function useLive(): Live {
  const [state, setState] = useState(live)
  useEffect(() => {
    const watch = () => setState(live)
    watchers.add(watch)
    watch()
    return () => void watchers.delete(watch)
  }, [])
  return state
}

/** Whether the daemon has an action of this name. */
export function has(state: Live, name: ActionName): boolean {
  return state.offered.includes(name)
}

/** Signs in if the address has a code, and listens for as long as somebody looks. */
export function startLive(): void {
  const code = /^#login=([\w-]+)$/.exec(location.hash)?.[1]
  if (code !== undefined) history.replaceState(undefined, '', '/#/')
  const signedIn = code === undefined ? Promise.resolve(true) : login(code).catch(() => false)
  void signedIn.then(() => follow())
  // Browsers allow one site few connections: a tab that nobody sees gives its own back.
  document.addEventListener('visibilitychange', () => {
    if (document.hidden) stop?.abort()
    else void follow()
  })
}

/** Asks again at once. */
export function retry(): void {
  stop?.abort()
  void follow()
}

/** Fetches what is told only when asked. */
export async function refreshStatus(): Promise<void> {
  change({ status: await call('status', {}) })
}

async function follow(): Promise<void> {
  const mine = new AbortController()
  stop?.abort()
  stop = mine
  let retryMs = FIRST_RETRY_MS
  const poll = setInterval(() => void refreshStatus().catch(() => {}), STATUS_MS)
  mine.signal.addEventListener('abort', () => clearInterval(poll))
  while (!mine.signal.aborted) {
    try {
      await load()
      retryMs = FIRST_RETRY_MS
      await listen(handle, mine.signal)
    } catch (error) {
      if (error instanceof ApiError && error.code === 'NOT_SIGNED_IN') {
        change({ phase: 'signedOut' })
        return mine.abort()
      }
    }
    if (mine.signal.aborted) return
    change({ phase: 'offline' })
    await new Promise(resolve => setTimeout(resolve, retryMs * (0.75 + Math.random() / 2)))
    retryMs = Math.min(retryMs * 2, MAX_RETRY_MS)
  }
}

async function load(): Promise<void> {
  const [actions, status, activity] = await Promise.all([offered(), call('status', {}), call('activity', {})])
  const known = actions.includes('traffic') ? await call('traffic', {}) : undefined
  const seconds = (known?.inward ?? []).map((_, i, all) => Math.round((known?.at ?? 0) / 1000) - all.length + 1 + i)
  change({
    phase: 'online',
    offered: actions,
    status,
    lines: activity.lines,
    history: [seconds, known?.inward ?? [], known?.outward ?? []],
  })
}

function handle(told: Told): void {
  switch (told.name) {
    case 'route':
      if (told.data.state !== live.route?.state) void refreshStatus().catch(() => {})
      return change({ route: told.data })
    case 'rtt':
      return change({ rtt: told.data })
    case 'throughput':
      return change({ now: told.data, history: withSample(told.data) })
    case 'failover':
      return change({ failover: { ...told.data, at: Date.now() } })
    case 'log':
      return change({ lines: [...live.lines, told.data].slice(-MAX_LINES) })
  }
}

function withSample({ at, inward, outward }: EventData<'throughput'>): Live['history'] {
  const [seconds, received, sent] = live.history
  const add = (list: readonly number[], value: number) => [...list, value].slice(-HISTORY_SECONDS)
  return [add(seconds, Math.round(at / 1000)), add(received, inward), add(sent, outward)]
}

function change(changed: Partial<Live>): void {
  live = { ...live, ...changed }
  for (const watch of watchers) watch()
}
