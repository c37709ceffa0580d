// Requests and answers over a channel that loses, repeats and reorders.
//
// `Asker` numbers requests and says when to repeat them; `Answerer` remembers what it answered, so that a repeated
// request is answered again and carried out once. Pure machines: time is an argument, nothing is sent from here.

import type { ControlAnswer, ControlRequest } from '#wire/control.ts'
import { encodeControl } from '#wire/control.ts'

const FIRST_REPEAT_MS = 400
const MAX_REPEATS = 6
/** Requests under way at once; one more is refused. */
export const MAX_REQUESTS = 2048
/** Answers remembered per session, oldest forgotten first. */
export const MAX_ANSWERS = 2048

interface Pending {
  readonly bytes: Uint8Array
  readonly settle: (answer: ControlAnswer | undefined) => void
  repeats: number
  dueMs: number
}

export class Asker {
  readonly #pending = new Map<number, Pending>()
  #next: number

  /** @param first any 16-bit number */
  constructor(first: number) {
    this.#next = first & 0xffff
  }

  get pending(): number {
    return this.#pending.size
  }

  /**
   * Begins a request: returns the bytes to send now. `settle` is called once, with `undefined` when nobody answered.
   * Returns `undefined` (and never settles) when too many are under way.
   */
  ask(
    request: ControlRequest,
    now: number,
    settle: (answer: ControlAnswer | undefined) => void,
  ): Uint8Array | undefined {
    if (this.#pending.size >= MAX_REQUESTS) return undefined
    while (this.#pending.has(this.#next)) this.#next = (this.#next + 1) & 0xffff
    const number = this.#next
    this.#next = (this.#next + 1) & 0xffff
    const bytes = encodeControl({ type: 'request', number, request })
    this.#pending.set(number, { bytes, settle, repeats: 0, dueMs: now + FIRST_REPEAT_MS })
    return bytes
  }

  /** Takes an answer; one that was not asked for, or was already taken, is ignored. */
  handleAnswer(number: number, answer: ControlAnswer): void {
    const pending = this.#pending.get(number)
    if (pending === undefined) return
    this.#pending.delete(number)
    pending.settle(answer)
  }

  /** When `repeat` has something to do next; Infinity when nothing is under way. */
  deadline(): number {
    let due = Number.POSITIVE_INFINITY
    for (const pending of this.#pending.values()) due = Math.min(due, pending.dueMs)
    return due
  }

  /** The requests to send again at `now`; those that were repeated too often are settled unanswered. */
  repeat(now: number): Uint8Array[] {
    const due: Uint8Array[] = []
    for (const [number, pending] of this.#pending) {
      if (pending.dueMs > now) continue
      if (pending.repeats >= MAX_REPEATS) {
        this.#pending.delete(number)
        pending.settle(undefined)
        continue
      }
      pending.repeats++
      pending.dueMs = now + Math.min(FIRST_REPEAT_MS * 2 ** pending.repeats, 3_000)
      due.push(pending.bytes)
    }
    return due
  }

  /** Settles everything unanswered. */
  close(): void {
    const pending = [...this.#pending.values()]
    this.#pending.clear()
    for (const { settle } of pending) settle(undefined)
  }
}

export class Answerer {
  /** The answer by request number; undefined while it is being worked out. */
  readonly #answers = new Map<number, Uint8Array | undefined>()

  /** What to do with request `number`: carry it out, wait, or send these bytes again. */
  admit(number: number): 'carryOut' | 'wait' | Uint8Array {
    if (this.#answers.has(number)) return this.#answers.get(number) ?? 'wait'
    if (this.#answers.size >= MAX_ANSWERS) {
      const oldest = this.#answers.keys().next().value
      if (oldest !== undefined) this.#answers.delete(oldest)
    }
    this.#answers.set(number, undefined)
    return 'carryOut'
  }

  /** Remembers the answer to a request that was carried out; returns the bytes to send. */
  answer(number: number, answer: ControlAnswer): Uint8Array {
    const bytes = encodeControl({ type: 'answer', number, answer })
    if (this.#answers.has(number)) this.#answers.set(number, bytes)
    return bytes
  }
}
