// Two processes in two homes that look for a path to each other; this process carries their offers, and writes down what they say.

import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import type { Home } from './home.ts'

const PEER = fileURLToPath(new URL('./path-host.ts', import.meta.url))
/** Offers take as long as a message over the rendezvous. */
const SIGNAL_MS = 100
const LIMIT_MS = 15_000
/** From then on nothing is changed, and what comes of the change is measured. */
const SETTLED_MS = 1_000

export interface HomePairOptions {
  readonly expected: 'direct' | 'relayed'
  /** Relays that answer STUN; the first two hold a flow for one side each, unless there is a TURN server. */
  readonly relays: readonly string[]
  readonly turn?: { readonly address: string; readonly username: string; readonly password: string }
  readonly hasIPv6?: boolean
  /** Something that happens once both are connected, and for how long it is looked on. */
  readonly afterwards?: { readonly event: (sides: HomePair) => Promise<void>; readonly forMs: number }
}

export interface HomePairResult {
  readonly outcome: 'direct' | 'relayed' | 'failed'
  /** Until a packet of the application had arrived on both sides; -1 if it never did. */
  readonly firstByteMs: number
  readonly directMs: number
  /** The longest time without a packet on either side after the event. */
  readonly gapMs: number
  /** Where the packets of the controlling side went at last. */
  readonly to: string
}

interface Line {
  readonly offer?: string
  readonly path?: string
  readonly to?: string
  readonly received?: number
}

interface Side {
  readonly child: ChildProcess
  path: string
  to: string
  received: number
  heardMs: number
}

let nextFlow = 20_000

export class HomePair {
  readonly #options: HomePairOptions
  readonly #sides: readonly [Side, Side]
  #beganMs = Number.POSITIVE_INFINITY
  #watchedMs = Number.POSITIVE_INFINITY
  #firstByteMs = -1
  #directMs = -1
  #gapMs = 0
  #changed: () => void = () => undefined

  constructor(a: Home, b: Home, options: HomePairOptions) {
    this.#options = options
    this.#sides = [this.#start(a, true), this.#start(b, false)]
    for (const [i, side] of this.#sides.entries()) {
      const other = this.#sides[1 - i] as Side
      createInterface({ input: side.child.stdout as NodeJS.ReadableStream }).on('line', text => {
        this.#hear(side, other, JSON.parse(text) as Line)
      })
    }
  }

  /** Waits until nothing better is expected, lets happen what is to happen, and ends both. */
  async run(): Promise<HomePairResult> {
    const { afterwards } = this.#options
    await this.#until(() => this.#isEnough, LIMIT_MS)
    if (afterwards !== undefined && this.#isEnough) {
      await sleep(SETTLED_MS)
      this.watch()
      await afterwards.event(this)
      await sleep(afterwards.forMs)
      this.#gap(performance.now())
    }
    const [{ path, to }, other] = this.#sides
    const outcome =
      this.#firstByteMs < 0 ? 'failed' : path === 'direct' && other.path === 'direct' ? 'direct' : 'relayed'
    await Promise.all(this.#sides.map(({ child }) => stop(child)))
    return { outcome, firstByteMs: this.#firstByteMs, directMs: this.#directMs, gapMs: Math.round(this.#gapMs), to }
  }

  /** From now on gaps count. */
  watch(): void {
    this.#watchedMs = performance.now()
    this.#gapMs = 0
  }

  /** Whether the application sends. */
  setSending(isSending: boolean): void {
    for (const { child } of this.#sides) child.stdin?.write(`${JSON.stringify({ isSending })}\n`)
  }

  get #isEnough(): boolean {
    return this.#firstByteMs >= 0 && (this.#options.expected === 'relayed' || this.#directMs >= 0)
  }

  #start(home: Home, isControlling: boolean): Side {
    const { relays, turn, hasIPv6 } = this.#options
    const flow = { relay: relays[isControlling ? 0 : 1], flow: nextFlow++ }
    const setup = {
      isControlling,
      hasIPv6: hasIPv6 === true,
      stun: relays.map(address => `${address}:3478`),
      ...(turn === undefined ? flow : { turn }),
      isStreamOnly: home.nat.blocksUdp === true,
    }
    const stdio = ['pipe', 'pipe', 'inherit'] as const
    const child = home.host.start(process.execPath, [PEER, JSON.stringify(setup)], { stdio: [...stdio] })
    return { child, path: 'none', to: '', received: 0, heardMs: 0 }
  }

  #hear(side: Side, other: Side, { offer, path, to, received }: Line): void {
    const now = performance.now()
    // Measured from the first offer: what a process takes to start is not the network's.
    this.#beganMs = Math.min(this.#beganMs, now)
    if (offer !== undefined) setTimeout(() => other.child.stdin?.write(`${JSON.stringify({ offer })}\n`), SIGNAL_MS)
    if (path !== undefined) {
      side.path = path
      side.to = to ?? ''
    }
    if (received !== undefined) {
      this.#gap(now, side)
      side.received = received
      side.heardMs = now
    }
    const elapsedMs = Math.round(now - this.#beganMs)
    if (this.#firstByteMs < 0 && this.#sides.every(each => each.received > 0)) this.#firstByteMs = elapsedMs
    if (this.#directMs < 0 && this.#sides.every(each => each.path === 'direct')) this.#directMs = elapsedMs
    this.#changed()
  }

  #gap(now: number, only?: Side): void {
    for (const side of this.#sides) {
      if (now < this.#watchedMs || (only !== undefined && side !== only)) continue
      this.#gapMs = Math.max(this.#gapMs, now - Math.max(side.heardMs, this.#watchedMs))
    }
  }

  async #until(what: () => boolean, limitMs: number): Promise<void> {
    await new Promise<void>(resolve => {
      const timer = setTimeout(resolve, limitMs)
      this.#changed = () => {
        if (!what()) return
        clearTimeout(timer)
        resolve()
      }
    })
    this.#changed = () => undefined
  }
}

function sleep(forMs: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, forMs))
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = new Promise(resolve => child.once('exit', resolve))
  child.stdin?.end()
  if (child.exitCode === null) await exited
}
