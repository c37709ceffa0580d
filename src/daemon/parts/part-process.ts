// The process of a part (part.ts): hears what it is to do, does it until it is told to stop, and says how it ended. When the
// daemon is gone without a word, it ends as after a crash: a tunnel's firewall stays shut.

import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import { monotonicMs } from '#platform/clock.ts'
import { giveSigns } from '#platform/heartbeat.ts'
import { dialThroughProxy } from '../client/issuer-way.ts'
import { type EntryMemory, runEntry } from '../entry/entry.ts'
import { planFromText } from '../entry/entry-plan.ts'
import { keepRunning } from '../keep-running.ts'
import { openLog } from '../log.ts'
import type { RunOptions } from '../node.ts'
import { runShare } from '../relay/relay.ts'
import type { FromPart, PartOrder, ToPart } from './part-order.ts'

const stop = new AbortController()

function tell(message: FromPart): void {
  if (process.connected) process.send?.(message, () => {})
}

async function run(order: PartOrder): Promise<void> {
  const { config, configFile, stateDir } = order
  const memory: EntryMemory = order.kind === 'entry' ? order.memory : {}
  const options: RunOptions = {
    stateDir,
    ...(configFile !== undefined && { configFile }),
    signal: stop.signal,
    log: openLog(config, order.kind),
    ...(order.kind === 'entry' && order.proxy && { dial: dialThroughProxy(order.proxy) }),
    onUp: () => {
      if (order.kind === 'entry') tell({ kind: 'memory', memory })
      tell({ kind: 'up' })
    },
  }
  const main = (more: RunOptions) =>
    order.kind === 'entry' ? runEntry(config, more, planFromText(order.wish), memory) : runShare(config, more, order.as)
  await keepRunning(main, options, {
    canBeOff: false,
    now: monotonicMs,
    jitter: Math.random,
    wait: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
  })
}

/** Says how it ended, and ends: libraries may keep timers. */
async function end(error?: unknown): Promise<never> {
  if (error !== undefined && process.connected) {
    const { code, message, advice } =
      error instanceof HopliteError
        ? error
        : { code: 'PART_FAILED' as const, message: 'run: it failed inside', advice: 'see: hoplite logs' }
    await new Promise<void>(resolve => process.send?.({ kind: 'failed', code, message, advice }, () => resolve()))
  }
  process.exit(error === undefined ? 0 : 1)
}

// A terminal or a service manager tells the daemon as well, and that says when to end. Whoever tells this process alone would
// open a firewall that its user wants shut.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {})
process.once('disconnect', () => {
  stop.abort(new HopliteError('PART_FAILED', 'go on: the daemon is gone', 'start it again'))
})
giveSigns(done => process.connected && process.send?.({ kind: 'alive' } satisfies FromPart, done))
process.on('message', (message: ToPart) => {
  if (message.kind === 'stop') stop.abort()
  else
    run(message.order).then(
      () => end(),
      (error: unknown) => end(error),
    )
})
