// `hoplite keep -- NODE`: runs a node as a process of its own and starts it again when it dies or hangs, where no service manager
// does that: on macOS and Windows, and for whoever starts one by hand. This process does nothing else.
//
//   node ──alive, up──► keep          ended in order, or before it was ever up: keep ends too, with its exit code
//        ◄──signals────               died after it was up, or silent for half a minute: once more, later each time

import { type ChildProcess, fork } from 'node:child_process'
import { constants } from 'node:os'
import { fileURLToPath } from 'node:url'
import { HopliteError } from '#api/errors.ts'
import { monotonicMs } from '#platform/clock.ts'
import { Failures } from '#platform/failures.ts'
import { BEAT_MS, Heartbeat, watchFor } from '#platform/heartbeat.ts'
import { siblingModule } from '#platform/module-url.ts'
import { type FromKept, KEPT_VARIABLE } from '../kept.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
/** The commands that are a node. */
const NODES = ['daemon', 'entry-daemon', 'relay', 'peer', 'bootstrap', 'rendezvous', 'issuer']

export interface KeepOptions {
  /** How often a sign of life is given and waited for, in milliseconds. */
  readonly beat?: number
}

/** Runs the node of `words` to its end, and ends this process with its exit code. Throws REQUEST_INVALID. */
export async function keep(words: readonly string[], { beat = BEAT_MS }: KeepOptions): Promise<never> {
  const [name = ''] = words
  if (!NODES.includes(name)) {
    const advice = `one of these: ${NODES.filter(node => node !== 'entry-daemon').join(', ')}`
    throw new HopliteError('REQUEST_INVALID', `keep "${name}": that is no node`, advice)
  }
  let child: ChildProcess
  let isStopping = false
  const stop = (signal: NodeJS.Signals) => {
    isStopping = true
    child.kill(signal)
  }
  for (const signal of SIGNALS) process.on(signal, () => stop(signal))
  process.once('disconnect', () => stop('SIGTERM'))
  const failures = new Failures()
  for (;;) {
    child = start(words, beat)
    const { code, wasUp } = await watch(child, beat)
    if (code === 0 || isStopping || !wasUp) process.exit(code)
    const { isLoop, waitMs } = failures.add(monotonicMs())
    say(
      `it ended with code ${code}`,
      isLoop ? 'again and again: it is left alone; see hoplite logs' : 'it is started again',
    )
    if (isLoop) process.exit(code)
    await new Promise(resolve => setTimeout(resolve, waitMs))
    if (isStopping) process.exit(code)
  }
}

function start(words: readonly string[], beat: number): ChildProcess {
  return fork(fileURLToPath(siblingModule(import.meta.url, '../main')), words, {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [KEPT_VARIABLE]: String(beat) },
    windowsHide: true,
  })
}

/** Resolves when it has ended; one that falls silent is ended. */
function watch(child: ChildProcess, beat: number): Promise<{ readonly code: number; readonly wasUp: boolean }> {
  const heartbeat = new Heartbeat()
  let wasUp = false
  const onSilent = () => {
    say('it hung and was ended', 'if that comes again: hoplite doctor --bundle')
    child.kill('SIGKILL')
  }
  const watching = watchFor(heartbeat, onSilent, { everyMs: beat })
  child.on('message', ({ kind }: FromKept) => {
    if (kind === 'up') wasUp = true
    else heartbeat.handleBeat()
  })
  return new Promise(resolve => {
    child.once('error', error => {
      say(`it could not be started: ${error.message}`, 'see: hoplite doctor')
      resolve({ code: 1, wasUp: false })
    })
    child.once('exit', (code, signal) => {
      watching[Symbol.dispose]()
      resolve({ code: code ?? 128 + constants.signals[signal ?? 'SIGKILL'], wasUp })
    })
  })
}

function say(what: string, advice: string): void {
  process.stderr.write(`hoplite: keep the node: ${what}\n  ${advice}\n`)
}
