// Notices that the machine is on another network, has another address, or was asleep: what held before may not hold now. Asks
// every half a second, which costs 0.1 ms and works everywhere.

import { networkInterfaces } from 'node:os'
import { hostAddresses, type InterfaceAddress } from '#path/interfaces.ts'

const EVERY_MS = 500
/** A timer that is this late means that the machine slept, or that its clock was set: asking once too often does no harm. */
const ASLEEP_MS = 3_000

export interface NetworkWatchOptions {
  /** Hears of each change. */
  readonly onChange: (reason: 'addresses' | 'woke') => void
  /** For tests: what the machine has, and the wall clock, which goes on while the machine sleeps. */
  readonly interfaces?: typeof networkInterfaces
  readonly wallMs?: () => number
}

export class NetworkWatch implements Disposable {
  readonly #options: NetworkWatchOptions
  readonly #timer: NodeJS.Timeout
  #seen: string
  #seenMs: number

  constructor(options: NetworkWatchOptions) {
    this.#options = options
    this.#seen = this.#look()
    this.#seenMs = this.#now()
    this.#timer = setInterval(() => this.look(), EVERY_MS)
    this.#timer.unref()
  }

  /** Looks now, without waiting for the next time. */
  look(): void {
    const seen = this.#look()
    const now = this.#now()
    const isChanged = seen !== this.#seen
    const wasAsleep = Math.abs(now - this.#seenMs) >= ASLEEP_MS
    this.#seen = seen
    this.#seenMs = now
    if (isChanged) this.#options.onChange('addresses')
    else if (wasAsleep) this.#options.onChange('woke')
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  #look(): string {
    const list = Object.entries((this.#options.interfaces ?? networkInterfaces)())
    return list.flatMap(([name, all]) => (all ?? []).map(({ mac, cidr }) => `${name} ${mac} ${cidr}`)).join()
  }

  #now(): number {
    return (this.#options.wallMs ?? Date.now)()
  }
}

/** Addresses of this machine that a peer may be told (`hostAddresses`). */
export function machineAddresses(): readonly string[] {
  const list: InterfaceAddress[] = []
  for (const [name, addresses] of Object.entries(networkInterfaces())) {
    for (const { address, internal } of addresses ?? []) list.push({ name, address, isInternal: internal })
  }
  return hostAddresses(list)
}
