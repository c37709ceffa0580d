// The helper's process: root, and the parent of the daemon, which has no rights. It reads no configuration and no packet, and
// imports no library: what it does stands in its order and in the verbs of helper-order.ts.
//
//   root's command ── becomes ──► this process ──starts──► the daemon, another user
//                                      │   ◄── requests, a line each ──┤  descriptor 3
//                                      └── open files ────────────────►┘  descriptor 4
//
// Signals are passed on, and the daemon's exit code is this one's. A daemon that hangs is ended and started again, behind the
// firewall that the one before it had; several times in a row, it is left alone. A daemon that says more than a line may hold is killed.

import { type ChildProcess, spawn } from 'node:child_process'
import type { Socket } from 'node:net'
import { constants } from 'node:os'
import { HopliteError } from '#api/errors.ts'
import { monotonicMs } from '../../clock.ts'
import { Failures } from '../../failures.ts'
import { Heartbeat, watchFor } from '../../heartbeat.ts'
import { lockStateSoon } from '../../state/state-lock.ts'
import { descriptorPair } from '../descriptors.ts'
import { fileCalls } from '../libc.ts'
import { prepareJournal } from '../network/changes.ts'
import { asDaemon, giveState } from './daemon-user.ts'
import { EntryHelper } from './entry-helper.ts'
import { Helper, MACHINE } from './helper.ts'
import { HELPER_VARIABLE } from './helper-channel.ts'
import { type Served, serveRequests } from './helper-serve.ts'
import { type HelperStart, START_VARIABLE } from './helper-start.ts'

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const
const LINES = 3
const FILES = 4

const { order, launch, stateDir, input, beatMs } = JSON.parse(process.env[START_VARIABLE] ?? '') as HelperStart
delete process.env[START_VARIABLE]
// A service manager that has a watchdog ends the two of us.
const isWatched = process.env['WATCHDOG_USEC'] !== undefined
prepareJournal(order.journal)
// One that ends with its daemon may still be undoing what that left.
const unlock = await lockStateSoon(order.journal).catch(fail)
giveState(stateDir, launch)
let child: ChildProcess
let isStopping = false
const stop = (signal: NodeJS.Signals) => {
  isStopping = true
  child.kill(signal)
}
for (const signal of SIGNALS) process.on(signal, () => stop(signal))
// Whoever started root's command over a channel is gone.
process.once('disconnect', () => stop('SIGTERM'))
const failures = new Failures()
let ended = await runDaemon()
while (ended.isHung && !isStopping && !failures.add(monotonicMs()).isLoop) ended = await runDaemon()
unlock()
process.exit(ended.code)

/** Starts the daemon, does what it says until it ends, and then what is to be done without it. */
async function runDaemon(): Promise<{ readonly code: number; readonly isHung: boolean }> {
  const helper = new Helper(order, MACHINE, sayChanged)
  await helper.handleStart().catch(fail)
  const [ours, theirs] = descriptorPair()
  const [program = '', ...words] = asDaemon(launch)
  child = spawn(program, words, {
    stdio: [input === undefined ? 'ignore' : 'pipe', 'inherit', 'inherit', 'pipe', theirs],
    env: environment(),
  })
  child.stdin?.on('error', () => undefined).end(input)
  fileCalls().close(theirs)
  const heartbeat = new Heartbeat()
  const entries = new EntryHelper(order)
  const served: Served = {
    carryOut: request => {
      if (request.verb === 'alive') heartbeat.handleBeat()
      return entries.handles(request) ? entries.handle(request) : helper.handle(request)
    },
    files: ours,
    onFlood: () => child.kill('SIGKILL'),
    isBusy: false,
  }
  let isHung = false
  const watching = watchFor(
    heartbeat,
    () => {
      if (isWatched) return
      isHung = true
      process.stderr.write('hoplite: the node hung\n  it was ended; if that comes again: hoplite doctor --bundle\n')
      child.kill('SIGKILL')
    },
    { everyMs: beatMs, isBusy: () => served.isBusy },
  )
  const serving = serveRequests(child.stdio[LINES] as Socket, served)
  const code = await new Promise<number>(resolve => {
    child.once('error', error => fail(error))
    child.once('exit', (ended, signal) => resolve(ended ?? 128 + constants.signals[signal ?? 'SIGKILL']))
  })
  watching[Symbol.dispose]()
  await serving
  fileCalls().close(ours)
  for (const gone of [helper, entries]) await gone.handleDaemonGone().catch(say)
  return { code, isHung }
}

/** The daemon's: not the watchdog's process id, which is this one's, and a home, which a user that nobody entered has none of. */
function environment(): NodeJS.ProcessEnv {
  const { WATCHDOG_PID: _, HOME = stateDir, ...rest } = process.env
  return { ...rest, ...launch.env, HOME, [HELPER_VARIABLE]: `${LINES} ${FILES}` }
}

function sayChanged(error?: unknown): void {
  if (error !== undefined) return say(error)
  process.stderr.write(
    'hoplite: another program has changed the firewall or the rules of the tunnel; they are put back\n',
  )
}

function say(error: unknown): void {
  const { message, advice } = error instanceof HopliteError ? error : { message: String(error), advice: 'report it' }
  process.stderr.write(`hoplite: ${message}\n  ${advice}\n`)
}

function fail(error: unknown): never {
  say(error)
  process.exit(1)
}
