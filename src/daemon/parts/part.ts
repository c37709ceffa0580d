// A part of a daemon: a node of another role that runs as a child process of its own, and is asked through its control socket.
// It is started again when it dies after it was up, later each time; one that cannot start is left alone, with its reason.
//
//   off ──start──► starting ──up──► running ──died──► waiting ──► starting
//    ▲                │ died                │stop
//    └── stopping ◄───┼─────────────────────┘
//                     ▼
//                   failed
//
// One that is silent for half a minute hangs: it is ended, and that counts as a death.
//
// What it is to do, secrets among it, comes to it over the channel between the two processes. That channel breaks when the
// daemon dies, whatever the cause, and then the part ends too.

import { type ChildProcess, fork } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { callAction, followEvents } from '#api/client.ts'
import { ERROR_CODES, HopliteError } from '#api/errors.ts'
import type { ActionName, Input, Output } from '#api/table.ts'
import { monotonicMs } from '#platform/clock.ts'
import { Heartbeat, watchFor } from '#platform/heartbeat.ts'
import { closeAll } from '#platform/linux/descriptors.ts'
import { HELPER_VARIABLE } from '#platform/linux/helper/helper-channel.ts'
import { siblingModule } from '#platform/module-url.ts'
import { type Log, own } from '../log.ts'
import type { FromPart, PartOrder, ToPart } from './part-order.ts'

const FIRST_WAIT_MS = 500
const MAX_WAIT_MS = 30_000
/** Who ran as long as this begins again with short waits. */
const SOUND_MS = 60_000
const STOP_MS = 12_000
const UP_MS = 30_000
const ASK_MS = 4_000
/** After the standard ones and the channel. */
const FIRST_FREE = 4

export type PartState = 'off' | 'starting' | 'running' | 'waiting' | 'stopping' | 'failed'

export interface PartOptions {
  readonly name: string
  /** The part's control socket. */
  readonly socket: string
  readonly log: Log
  /** Starts the process. */
  readonly launch?: () => ChildProcess
  /** Where the process changes the network, and may not: two descriptors that lead to who does it. Asked for each process anew. */
  readonly helper?: (order: PartOrder) => Promise<readonly number[]> | undefined
  /** How often a sign of life is waited for, where it is not as usual. */
  readonly beatMs?: number
}

export class Part {
  readonly #options: PartOptions
  #state: PartState = 'off'
  #order: PartOrder | undefined
  #child: ChildProcess | undefined
  #problem: HopliteError | undefined
  #waits = 0
  #upAtMs: number | undefined
  #again: NodeJS.Timeout | undefined
  #settled: (() => void) | undefined
  #listening = new AbortController()
  #heartbeat = new Heartbeat()
  #watching: Disposable | undefined

  constructor(options: PartOptions) {
    this.#options = options
  }

  get state(): PartState {
    return this.#state
  }

  /** Why it does not run. */
  get problem(): HopliteError | undefined {
    return this.#problem
  }

  /** What it was told to do last. */
  get order(): PartOrder | undefined {
    return this.#order
  }

  /** Starts it; resolves when it answers, or when that takes long. Throws PART_RUNNING, or what keeps it from starting. */
  async start(order: PartOrder): Promise<void> {
    const { name } = this.#options
    if (this.#state !== 'off' && this.#state !== 'failed')
      throw new HopliteError('PART_RUNNING', `start ${name}: it runs already`, 'stop it first')
    this.#order = order
    this.#waits = 0
    this.#launch()
    await this.#settles(UP_MS)
    // TypeScript cannot see that waiting changed it.
    if ((this.#state as PartState) === 'failed' && this.#problem !== undefined) throw this.#problem
  }

  /** Ends it in order, and what it changed on this machine is undone. */
  async stop(): Promise<void> {
    clearTimeout(this.#again)
    this.#problem = undefined
    const child = this.#child
    if (child === undefined) {
      this.#state = 'off'
      return
    }
    this.#state = 'stopping'
    this.#tell(child, { kind: 'stop' })
    const late = setTimeout(() => child.kill('SIGKILL'), STOP_MS)
    await this.#settles(STOP_MS + 1_000)
    clearTimeout(late)
  }

  /** Carries out an action of the part. Throws what it throws, or DAEMON_NOT_RUNNING. */
  call<N extends ActionName>(name: N, input: Input<N>, timeoutMs = ASK_MS): Promise<Output<N>> {
    return callAction(this.#options.socket, name, input, timeoutMs)
  }

  /** The same where no answer is an answer. */
  async ask<N extends ActionName>(name: N, input: Input<N>): Promise<Output<N> | undefined> {
    if (this.#state !== 'running') return undefined
    return this.call(name, input).catch(() => undefined)
  }

  #launch(): void {
    const order = this.#order
    if (order === undefined) return
    const asked = this.#options.helper?.(order)
    if (asked === undefined) return this.#run(order, [])
    this.#state = 'starting'
    asked.then(
      fds => {
        // It may have been told to end meanwhile, or to do something else.
        if (this.#state === 'starting' && this.#order === order) this.#run(order, fds)
        closeAll(fds)
      },
      (error: unknown) => {
        if (this.#state !== 'starting' || this.#order !== order) return
        const advice = 'see: hoplite doctor'
        this.#problem =
          error instanceof HopliteError ? error : new HopliteError('PART_FAILED', String(error), advice, error)
        this.#giveUp()
      },
    )
  }

  #run(order: PartOrder, fds: readonly number[]): void {
    const child = this.#begin(fds)
    if (child === undefined) return this.#giveUp()
    this.#state = 'starting'
    this.#child = child
    this.#upAtMs = undefined
    this.#heartbeat = new Heartbeat()
    this.#watching = watchFor(this.#heartbeat, () => this.#handleSilence(child), { everyMs: this.#options.beatMs })
    child.on('message', (message: FromPart) => this.#handleMessage(message))
    // Without a listener a channel that breaks while something is sent would be an error of ours.
    child.on('error', () => this.#handleEnd(child))
    child.once('exit', () => this.#handleEnd(child))
    this.#tell(child, { kind: 'order', order })
  }

  /** Starts the process; undefined where this one may not start others. */
  #begin(fds: readonly number[]): ChildProcess | undefined {
    try {
      return (this.#options.launch ?? (() => forkPart(fds)))()
    } catch (error) {
      const { name } = this.#options
      const what = `start ${name}: this process may start no other (${(error as NodeJS.ErrnoException).code})`
      this.#problem = new HopliteError('PART_FAILED', what, 'start the daemon with --allow-child-process', error)
      return undefined
    }
  }

  #giveUp(): void {
    this.#state = 'failed'
    // Whoever waits begins to wait after this.
    setImmediate(() => this.#settle())
  }

  #handleMessage(message: FromPart): void {
    switch (message.kind) {
      case 'alive':
        return this.#heartbeat.handleBeat()
      case 'up':
        if (this.#state !== 'starting') return
        this.#state = 'running'
        this.#upAtMs = monotonicMs()
        this.#problem = undefined
        void this.#listen()
        return this.#settle()
      case 'memory':
        if (this.#order?.kind === 'entry') this.#order = { ...this.#order, memory: message.memory }
        return
      case 'failed':
        this.#problem = new HopliteError(
          ERROR_CODES.find(code => code === message.code) ?? 'PART_FAILED',
          message.message,
          message.advice,
        )
    }
  }

  #handleSilence(child: ChildProcess): void {
    const { name, log } = this.#options
    this.#problem = new HopliteError(
      'PART_FAILED',
      `run ${name}: its process hung`,
      'it was ended; if that comes again: hoplite doctor --bundle',
    )
    log.error('a part hung', { part: own(name) })
    child.kill('SIGKILL')
  }

  #handleEnd(child: ChildProcess): void {
    if (child !== this.#child) return
    this.#child = undefined
    this.#watching?.[Symbol.dispose]()
    this.#listening.abort()
    const { name, log } = this.#options
    if (this.#state === 'stopping') {
      this.#state = 'off'
      return this.#settle()
    }
    const how = child.signalCode ?? `code ${child.exitCode}`
    this.#problem ??= new HopliteError(
      'PART_FAILED',
      `run ${name}: its process ended with ${how}`,
      'what it said last is in the activity and in the log: hoplite logs',
    )
    const wasUp = this.#upAtMs !== undefined || this.#waits > 0
    log.warn('a part ended', { part: own(name), code: own(this.#problem.code), again: wasUp })
    if (!wasUp) {
      this.#state = 'failed'
      return this.#settle()
    }
    if (this.#upAtMs !== undefined && monotonicMs() - this.#upAtMs > SOUND_MS) this.#waits = 0
    this.#state = 'waiting'
    this.#again = setTimeout(() => this.#launch(), Math.min(FIRST_WAIT_MS * 2 ** this.#waits++, MAX_WAIT_MS))
    this.#settle()
  }

  /** What the part says is heard beside what the daemon says itself. */
  async #listen(): Promise<void> {
    const { socket, log } = this.#options
    const { lines } = log
    const listening = new AbortController()
    this.#listening = listening
    if (lines === undefined) return
    const before = await this.ask('activity', {})
    for (const { number: _, ...line } of before?.lines ?? []) lines.add(line)
    let last = before?.lines.at(-1)?.number ?? 0
    try {
      for await (const told of followEvents(socket, listening.signal)) {
        if (told.name !== 'log' || told.data.number <= last) continue
        const { number, ...line } = told.data
        last = number
        lines.add(line)
      }
    } catch {
      // It ended, or was told to.
    }
  }

  #tell(child: ChildProcess, message: ToPart): void {
    // One that just ended hears nothing: its end is heard instead.
    if (child.connected) child.send(message, () => {})
  }

  #settles(limitMs: number): Promise<void> {
    return new Promise(resolve => {
      const timer = setTimeout(resolve, limitMs)
      this.#settled = () => {
        clearTimeout(timer)
        resolve()
      }
    })
  }

  #settle(): void {
    this.#settled?.()
    this.#settled = undefined
  }
}

/** What it prints stands in the daemon's own log. The way to a helper is its own, and not the daemon's. */
function forkPart(fds: readonly number[]): ChildProcess {
  const { [HELPER_VARIABLE]: _, ...env } = process.env
  return fork(fileURLToPath(siblingModule(import.meta.url, './part-process')), [], {
    stdio: ['ignore', 'inherit', 'inherit', 'ipc', ...fds],
    serialization: 'advanced',
    env: { ...env, ...(fds.length > 0 && { [HELPER_VARIABLE]: fds.map((_, i) => FIRST_FREE + i).join(' ') }) },
  })
}
