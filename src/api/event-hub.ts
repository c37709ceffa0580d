// Where a node's events are told: whoever listens gets each as one frame of `text/event-stream`, made once for all.

import type { EventData, EventName, Told } from './table.ts'

/** More listeners than this are refused; a hundred dashboards and some programs fit. */
const MAX_LISTENERS = 256

export class EventHub {
  readonly #listeners = new Set<(frame: string) => void>()
  readonly #greet: () => readonly Told[]

  /** @param greet what a new listener is told first: how things stand */
  constructor(greet: () => readonly Told[] = () => []) {
    this.#greet = greet
  }

  /** Whether anybody listens: what is only measured for listeners need not be measured otherwise. */
  get isWatched(): boolean {
    return this.#listeners.size > 0
  }

  /** Whether nobody more can listen. */
  get isFull(): boolean {
    return this.#listeners.size >= MAX_LISTENERS
  }

  tell<N extends EventName>(name: N, data: EventData<N>): void {
    if (this.#listeners.size === 0) return
    const frame = frameOf(name, data)
    for (const listener of this.#listeners) listener(frame)
  }

  /** Listens until the result is called; undefined when there are too many already. */
  listen(listener: (frame: string) => void): (() => void) | undefined {
    if (this.isFull) return undefined
    this.#listeners.add(listener)
    for (const { name, data } of this.#greet()) listener(frameOf(name, data))
    return () => this.#listeners.delete(listener)
  }
}

function frameOf(name: string, data: unknown): string {
  return `event: ${name}\ndata: ${JSON.stringify(data)}\n\n`
}
