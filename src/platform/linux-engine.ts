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
import { workerOf } from '#forward/workers.ts'
import { monotonicMs } from './clock.ts'
import { routeOf } from './command-routes.ts'
import type { Engine, EngineOptions, LinuxWorkerData } from './engine.ts'
import { Failures } from './failures.ts'
import { type EventDescriptor, openEvent } from './linux/event-descriptor.ts'
import { fileCalls } from './linux/libc.ts'
import { NodeSockets } from './linux/node-sockets.ts'
import { PortQueues } from './linux/port-queues.ts'
import { ThreadTimes } from './linux/thread-times.ts'
import { WorkerMemory } from './linux/worker-memory.ts'
import { LinuxThread } from './linux-thread.ts'
import { ObservationRound } from './observation-round.ts'
import { place } from './placement.ts'

type CommandOf<K extends Command['kind']> = Extract<Command, { readonly kind: K }>

interface LinuxWorker {
  /** Undefined while it is started again. */
  thread: LinuxThread | undefined
  sessions: number
}

export class LinuxEngine implements Engine {
  readonly counters: Counters
  readonly #options: EngineOptions
  readonly #sockets: NodeSockets | undefined
  readonly #most: number
  readonly #data: Omit<LinuxWorkerData, 'worker' | 'socketFd' | 'wakeFd'>
  readonly #memory: WorkerMemory
  readonly #bells: readonly EventDescriptor[]
  readonly #workers: LinuxWorker[] = []
  readonly #times: ThreadTimes
  readonly #failures = new Failures()
  readonly #ports = new PortQueues()
  readonly #timers = new Set<NodeJS.Timeout>()
  /** The worker of each session, where there can be several. */
  readonly #sessions = new Map<number, number>()
  /** What a worker is told that is started later. */
  readonly #standing = new Map<Command['kind'], Command>()
  readonly #observations: ObservationRound
  #isListening = false
  #isClosed = false
  readonly #end = () => {
    for (const { thread } of this.#workers) thread?.end()
  }

  /** Throws FFI_MISSING where the calls cannot be made. */
  constructor(options: EngineOptions) {
    this.#options = options
    const { host, port, maxStreamDatagram, workers = 1, sockets: given = [] } = options
    const opened = NodeSockets.open({ bind: { host, port }, workers, given })
    this.#sockets = opened instanceof NodeSockets ? opened : undefined
    this.#most = this.#sockets?.workers ?? 1
    this.#bells = Array.from({ length: this.#most }, () => openEvent())
    const memory = WorkerMemory.make(this.#most)
    this.#memory = new WorkerMemory(memory)
    this.counters = new Counters(Counters.memory(this.#most))
    this.#times = new ThreadTimes(worker => this.#memory.thread(worker))
    this.#observations = new ObservationRound(report => this.#report(report))
    const bells = this.#bells.map(({ fd }) => fd)
    this.#data = { host, port, maxStreamDatagram, counters: this.counters.shared, memory, bells }
    process.once('exit', this.#end)
    if (opened instanceof NodeSockets) this.#add()
    else setImmediate(() => this.#report({ kind: 'failed', what: `bind UDP port ${port}: ${opened.code}` }))
  }

  send(...commands: readonly Command[]): void {
    if (this.#isClosed || commands.length === 0) return
    if (this.#most === 1) return this.#workers[0]?.thread?.send(commands.map(command => this.#fitted(command, 0)))
    const batches = new Map<number, Command[]>()
    const add = (worker: number, command: Command) => {
      const batch = batches.get(worker)
      if (batch === undefined) batches.set(worker, [command])
      else batch.push(command)
    }
    for (const command of commands) this.#route(command, add)
    for (const [worker, batch] of batches) this.#workers[worker]?.thread?.send(batch)
  }

  place(): number {
    if (this.#most === 1) return 0
    const busy = this.#times.busy(this.#workers.length, monotonicMs())
    const loads = this.#workers.map(({ thread, sessions }, i) => ({
      isUp: thread !== undefined,
      sessions,
      busy: busy[i] ?? 0,
    }))
    return place(loads, this.#most)
  }

  async close(): Promise<void> {
    this.#isClosed = true
    for (const timer of this.#timers) clearTimeout(timer)
    await Promise.all(this.#workers.map(({ thread }) => thread?.close()))
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
        const worker = this.#sessions.get(command.session)
        if (worker === undefined) return
        this.#forget(command.session, worker)
        return add(worker, command)
      }
      case 'joinMeeting':
        return this.#join(command, add)
      case 'crash':
        if (command.worker !== undefined) return add(command.worker, command)
    }
    const route = routeOf(command)
    if (route === 'first') return add(this.#first(), command)
    if (route !== 'all') return add(this.#sessions.get(route.session) ?? this.#first(), command)
    this.#note(command)
    for (const worker of this.#workers.keys()) add(worker, this.#fitted(command, worker))
  }

  /** The worker of a session that is installed: the one that its index names, or that of the session which carries it. */
  #own({ session, via, keys }: CommandOf<'installSession'>): number {
    const carrier = via.kind === 'flow' ? this.#sessions.get(via.session) : undefined
    const worker = carrier ?? workerOf(keys.localIndex, this.#most)
    const before = this.#sessions.get(session)
    if (before !== undefined) this.#forget(session, before)
    while (this.#workers.length <= worker) this.#add()
    this.#sessions.set(session, worker)
    const owner = this.#workers[worker]
    if (owner !== undefined) owner.sessions++
    // It died after it had been chosen.
    if (owner?.thread === undefined) setImmediate(() => this.#lose(worker, [session], 'it is being started again'))
    return worker
  }

  #join({ flows: [a, b] }: CommandOf<'joinMeeting'>, add: (worker: number, command: Command) => void): void {
    const [one, two] = [this.#sessions.get(a.session), this.#sessions.get(b.session)]
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
    const worker = this.#workers.length
    this.#workers.push({ thread: undefined, sessions: 0 })
    this.#start(worker)
  }

  #start(worker: number): void {
    const sockets = this.#sockets
    const entry = this.#workers[worker]
    if (sockets === undefined || entry === undefined || this.#isClosed) return
    try {
      const data = { ...this.#data, worker, socketFd: sockets.copyFor(worker) }
      entry.thread = new LinuxThread(data, {
        onReport: report => this.#handleReport(report, worker),
        onDeath: error => this.#handleDeath(worker, error),
      })
    } catch (error) {
      setImmediate(() => this.#handleDeath(worker, error instanceof Error ? error : new Error(String(error))))
      return
    }
    const standing = [...this.#standing.values()].map(command => this.#fitted(command, worker))
    if (standing.length > 0) entry.thread.send(standing)
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
    const entry = this.#workers[worker]
    if (entry === undefined || this.#isClosed) return
    entry.thread = undefined
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
    const sessions = [...this.#sessions].flatMap(([session, owner]) => (owner === worker ? [session] : []))
    this.#lose(worker, sessions, error.message)
    const timer = setTimeout(() => {
      this.#timers.delete(timer)
      this.#start(worker)
    }, waitMs)
    this.#timers.add(timer)
  }

  /** Says that these sessions of a worker are gone. */
  #lose(worker: number, sessions: readonly number[], why: string): void {
    for (const session of sessions) this.#forget(session, worker)
    this.#report({ kind: 'sessionsLost', sessions, what: `worker ${worker} of the data plane: ${why}` })
  }

  #forget(session: number, worker: number): void {
    this.#sessions.delete(session)
    const owner = this.#workers[worker]
    if (owner !== undefined) owner.sessions--
  }

  #up(): number[] {
    return this.#workers.flatMap(({ thread }, i) => (thread === undefined ? [] : [i]))
  }

  #first(): number {
    return this.#up()[0] ?? 0
  }

  #report(report: Report): void {
    if (!this.#isClosed) this.#options.onReport(report)
  }
}
