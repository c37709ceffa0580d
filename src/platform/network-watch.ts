// Notices that the machine is on another network, has another address, or was asleep: what held before may not hold now. Asks
// every half a second, which costs 0.1 ms and works everywhere.

import { type NetworkInterfaceInfo, networkInterfaces, uptime } from 'node:os'
import { hostAddresses, type InterfaceAddress } from '#path/interfaces.ts'
import { monotonicMs } from './clock.ts'

const EVERY_MS = 500
/** A timer that is this late means that the machine slept, or that its clock was set: asking once too often does no harm. */
const ASLEEP_MS = 3_000
/** The time since boot has whole seconds. */
const UPTIME_ERROR_MS = 1_000

export interface NetworkWatchOptions {
  /** Hears of each change, and for how long the machine slept meanwhile while `monotonicMs` stood still. */
  readonly onChange: (reason: 'addresses' | 'woke', sleptMs: number) => void
  /** For tests: what the machine has, and the wall clock, which goes on while the machine sleeps. */
  readonly interfaces?: typeof networkInterfaces
  readonly wallMs?: () => number
  /** How much longer the machine is up than `monotonicMs` went on. */
  readonly sleptMs?: () => number
}

export class NetworkWatch implements Disposable {
  readonly #options: NetworkWatchOptions
  readonly #timer: NodeJS.Timeout
  #seen = ''
  #seenMs: number
  #sleptMs: number

  constructor(options: NetworkWatchOptions) {
    this.#options = options
    this.#seen = this.#look()
    this.#seenMs = this.#now()
    this.#sleptMs = this.#slept()
    this.#timer = setInterval(() => this.look(), EVERY_MS)
    this.#timer.unref()
  }

  /** Looks now, without waiting for the next time. */
  look(): void {
    const seen = this.#look()
    const now = this.#now()
    const isChanged = seen !== this.#seen
    const wasAsleep = Math.abs(now - this.#seenMs) >= ASLEEP_MS
    const slept = this.#slept()
    const sleptMs = slept - this.#sleptMs > UPTIME_ERROR_MS ? slept - this.#sleptMs : 0
    this.#seen = seen
    this.#seenMs = now
    // Compared with the same moment until it slept, so that what is cut off does not add up.
    if (sleptMs > 0 || slept < this.#sleptMs - UPTIME_ERROR_MS) this.#sleptMs = slept
    if (isChanged || wasAsleep || sleptMs > 0) this.#options.onChange(isChanged ? 'addresses' : 'woke', sleptMs)
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer)
  }

  /** As it was where the system does not say: asking takes a descriptor, and there may be none left. */
  #look(): string {
    let list: [string, NetworkInterfaceInfo[] | undefined][]
    try {
      list = Object.entries((this.#options.interfaces ?? networkInterfaces)())
    } catch {
      return this.#seen
    }
    return list.flatMap(([name, all]) => (all ?? []).map(({ mac, cidr }) => `${name} ${mac} ${cidr}`)).join()
  }

  #slept(): number {
    return this.#options.sleptMs?.() ?? uptime() * 1_000 - monotonicMs()
  }

  #now(): number {
    return (this.#options.wallMs ?? Date.now)()
  }
}

/** Addresses of this machine that a peer may be told (`hostAddresses`). */
export function machineAddresses(): readonly string[] {
  const list: InterfaceAddress[] = []
  try {
    for (const [name, addresses] of Object.entries(networkInterfaces())) {
      for (const { address, internal } of addresses ?? []) list.push({ name, address, isInternal: internal })
    }
  } catch {
    // Asking takes a descriptor, and there may be none left.
  }
  return hostAddresses(list)
}
