// The linux engine: batched calls through node:ffi, in one worker or several, each with sessions of its own.
//
//                     ┌─ worker 0: handshakes, STUN, its sessions ─┐
//   commands ──route──┼─ worker 1: its sessions                    ├──► reports, as of one
//                     └─ worker 2: its sessions ──── died ─────────┘
//                              └──► its sessions are reported lost, it is started again, the others go on
//
// Workers are started when there is something to do for them (placement.ts). When the last one dies, or they die again and again,
// the engine has failed.

import type { Command, MeetingEnd, Report, TableCommand } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { MAX_WORKERS, workerOf } from '#forward/workers.ts'
import { monotonicMs } from './clock.ts'
import { routeOf } from './command-routes.ts'
import type { Engine, EngineOptions, LinuxWorkerData } from './engine.ts'
import { Failures } from './failures.ts'
import { fileCalls } from './linux/libc.ts'
import { type EventDescriptor, openEvent } from './linux/plane/event-descriptor.ts'
import { NodeSockets } from './linux/plane/node-sockets.ts'
import { PortQueues } from './linux/plane/port-queues.ts'
import { ThreadTimes } from './linux/plane/thread-times.ts'
import { WorkerMemory } from './linux/plane/worker-memory.ts'
import { LinuxThread } from './linux-thread.ts'
import { ObservationRound } from './observation-round.ts'
import { place } from './placement.ts'
import { SessionOwners } from './session-owners.ts'

/** So that what is known of how busy workers are is of now, whenever a session comes. */
const SAMPLE_MS = 2_000

type CommandOf<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

export class LinuxEngine implements Engine {
  readonly counters: Counters
  readonly takesSockets = true
  readonly #options: EngineOptions
  readonly #sockets: NodeSockets | undefined
  readonly #most: number
  readonly #data: Omit<LinuxWorkerData, 'worker' | 'socketFd' | 'wakeFd'>
  readonly #memory: WorkerMemory
  readonly #bells: readonly EventDescriptor[]
  /** Undefined while one is started again. */
  readonly #threads: (LinuxThread | undefined)[] = []
  readonly #times: ThreadTimes
  readonly #failures = new Failures()
  readonly #ports = new PortQueues()
  readonly #timers = new Set<NodeJS.Timeout>()
  /** Kept where there can be several workers. */
  readonly #owners = new SessionOwners()
  /** What a worker is told that is started later. */
  readonly #standing = new Map<Command['kind'], Command>()
  readonly #observations: ObservationRound
  #sampling: NodeJS.Timeout | undefined
  #isListening = false
  #isClosed = false
  readonly #end = () => {
    for (const thread of this.#threads) thread?.end()
  }

  /** Throws FFI_MISSING where the calls cannot be made. */
  constructor(options: EngineOptions) {
    this.#options = options
    const { host, port, maxStreamDatagram, workers = 1, sockets: given = [], warmsUp = true } = options
    const opened = NodeSockets.open({ bind: { host, port }, workers: Math.min(workers, MAX_WORKERS), given })
    this.#sockets = opened instanceof NodeSockets ? opened : undefined
    this.#most = this.#sockets?.workers ?? 1
    this.#bells = Array.from({ length: this.#most }, () => openEvent())
    const memory = WorkerMemory.make(this.#most)
    this.#memory = new WorkerMemory(memory)
    this.counters = new Counters(Counters.memory(this.#most))
    this.#times = new ThreadTimes(worker => this.#memory.thread(worker))
    this.#observations = new ObservationRound(report => this.#report(report))
    const bells = this.#bells.map(({ fd }) => fd)
    this.#data = { host, port, maxStreamDatagram, warmsUp, counters: this.counters.shared, memory, bells }
    process.once('exit', this.#end)
    if (this.#most > 1) this.#sampling = setInterval(() => this.#busy(), SAMPLE_MS).unref()
    if (opened instanceof NodeSockets) this.#add()
    else setImmediate(() => this.#report({ kind: 'failed', what: `bind UDP port ${port}: ${opened.code}` }))
  }

  send(...commands: readonly Command[]): void {
    if (this.#isClosed || commands.length === 0) return
    if (this.#most === 1) return this.#threads[0]?.send(commands.map(command => this.#fitted(command, 0)))
    const batches = new Map<number, Command[]>()
    const add = (worker: number, command: Command) => {
      const batch = batches.get(worker)
      if (batch === undefined) batches.set(worker, [command])
      else batch.push(command)
    }
    for (const command of commands) this.#route(command, add)
    for (const [worker, batch] of batches) this.#threads[worker]?.send(batch)
  }

  place(): number {
    if (this.#most === 1) return 0
    const busy = this.#busy()
    const loads = this.#threads.map((thread, i) => ({
      isUp: thread !== undefined,
      sessions: this.#owners.count(i),
      busy: busy[i] ?? 0,
    }))
    return place(loads, this.#most)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearInterval(this.#sampling)
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all(this.#threads.map(thread => thread?.close()))
    process.off('exit', this.#end)
    this.#sockets?.close()
    this.#ports.close()
    for (const bell of this.#bells) bell.close()
  }

  #route(command: Command, add: (worker: number, command: Command) => void): void {
    switch (command.kind) {
      case 'installSession':
        return add(this.#own(command), command)
      case 'removeSession': {
        const worker = this.#owners.delete(command.session)
        return worker === undefined ? undefined : add(worker, command)
      }
      case 'joinMeeting':
        return this.#join(command, add)
      case 'crash':
        if (command.worker !== undefined) return add(command.worker, command)
    }
    const route = routeOf(command)
    if (route === 'first') return add(this.#first(), command)
    if (route !== 'all') return add(this.#owners.find(route.session) ?? this.#first(), command)
    this.#note(command)
    for (const worker of this.#threads.keys()) add(worker, this.#fitted(command, worker))
  }

  /** The worker of a session that is installed: the one that its index names, or that of the session which carries it. */
  #own({ session, via, keys }: CommandOf<'installSession'>): number {
    const carrier = via.kind === 'flow' ? this.#owners.find(via.session) : undefined
    const worker = carrier ?? workerOf(keys.localIndex, this.#most)
    while (this.#threads.length <= worker) this.#add()
    this.#owners.add(session, worker)
    // It died after it had been chosen.
    if (this.#threads[worker] === undefined)
      setImmediate(() => this.#lose(worker, [session], 'it is being started again'))
    return worker
  }

  #join({ flows: [a, b] }: CommandOf<'joinMeeting'>, add: (worker: number, command: Command) => void): void {
    const [one, two] = [this.#owners.find(a.session), this.#owners.find(b.session)]
    if (one === undefined || two === undefined) return
    if (one === two) return add(one, { kind: 'joinMeeting', flows: [a, b] })
    const seenFrom = (worker: number): TableCommand => {
      const end = (end: MeetingEnd, owner: number) => (owner === worker ? end : { ...end, worker: owner })
      return { kind: 'joinMeeting', flows: [end(a, one), end(b, two)] }
    }
    for (const worker of [one, two]) add(worker, seenFrom(worker))
  }

  /** Remembers what a worker is to be told that is started later. */
  #note(command: Command): void {
    switch (command.kind) {
      case 'limitLent':
      case 'observe':
      case 'openPort':
        this.#standing.set(command.kind, command)
        break
      case 'closePort':
        this.#standing.delete('openPort')
        break
      case 'reportObservation':
        this.#observations.begin(command.request, this.#up())
    }
  }

  /** A command as this worker is to have it: with descriptors of its own. */
  #fitted(command: Command, worker: number): Command {
    if (command.kind === 'closePort') this.#ports.close()
    if (command.kind !== 'openPort') return command
    return { kind: 'openPort', port: this.#ports.planFor(command.port, worker) }
  }

  /** Starts the next worker. */
  #add(): void {
    this.#threads.push(undefined)
    this.#start(this.#threads.length - 1)
  }

  #start(worker: number): void {
    const sockets = this.#sockets
    if (sockets === undefined || this.#isClosed) return
    try {
      const data = { ...this.#data, worker, socketFd: sockets.copyFor(worker) }
      this.#threads[worker] = new LinuxThread(data, {
        onReport: report => this.#handleReport(report, worker),
        onDeath: error => this.#handleDeath(worker, error),
      })
    } catch (error) {
      setImmediate(() => this.#handleDeath(worker, error instanceof Error ? error : new Error(String(error))))
      return
    }
    const standing = [...this.#standing.values()].map(command => this.#fitted(command, worker))
    if (standing.length > 0) this.#threads[worker]?.send(standing)
  }

  #handleReport(report: Report, worker: number): void {
    if (report.kind === 'observation') return this.#observations.handle(report, worker)
    if (report.kind === 'listening') {
      if (this.#isListening) return
      this.#isListening = true
    }
    this.#report(report)
  }

  #handleDeath(worker: number, error: Error): void {
    if (this.#isClosed) return
    this.#threads[worker] = undefined
    this.#memory.setRuns(worker, false)
    // What it had no time to close.
    for (const fd of this.#memory.descriptors(worker).take()) fileCalls().close(fd)
    this.#ports.leave(worker)
    this.#observations.leave(worker)
    const { isLoop, waitMs } = this.#failures.add(monotonicMs())
    if (isLoop || this.#up().length === 0) {
      this.#isClosed = true
      return this.#options.onFailure(error)
    }
    this.#lose(worker, this.#owners.of(worker), error.message)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#start(worker)
    }, waitMs)
    this.#timers.add(timer)
  }

  /** Says that these sessions of a worker are gone. */
  #lose(worker: number, sessions: readonly number[], why: string): void {
    for (const session of sessions) this.#owners.delete(session)
    this.#report({ kind: 'sessionsLost', sessions, what: `worker ${worker} of the data plane: ${why}` })
  }

  #busy(): readonly number[] {
    return this.#times.busy(this.#threads.length, monotonicMs())
  }

  #up(): number[] {
    return this.#threads.flatMap((thread, i) => (thread === undefined ? [] : [i]))
  }

  #first(): number {
    return this.#up()[0] ?? 0
  }

  #report(report: Report): void {
    if (!this.#isClosed) this.#options.onReport(report)
  }
}
