// Brings the machine's network to what is offered to devices and accepted of them: one change after the other, each with its undo in
// the journal (device-kernel.ts).
//
// What is taken away is taken from the tunnels first, and then from the kernel; what is given goes the other way.

import type { DeviceRoute, DeviceSharing } from '#platform/linux/network/device-network.ts'
import { type Log, own } from '../log.ts'
import type { Kernel } from './device-kernel.ts'

/** What may be used of this machine: as the kernel is told, and by the ids of devices and phones. */
export interface WantedSharing {
  readonly kernel: DeviceSharing
  readonly served: ReadonlyMap<string, readonly string[]>
}

export interface KernelSharingOptions {
  readonly kernel: Kernel
  readonly log: Log
  /** What is wanted of the interface of that name, or nothing. */
  readonly sharing: (tun: string) => WantedSharing | undefined
  readonly routes: () => readonly DeviceRoute[]
  /** Something is as it was not before. */
  readonly onChange: () => void
}

export class KernelSharing {
  readonly #options: KernelSharingOptions
  #tun: string | undefined
  #outward: readonly (4 | 6)[] = []
  #served: ReadonlyMap<string, readonly string[]> = new Map()
  #shared: DeviceSharing | undefined
  #routes: readonly DeviceRoute[] = []
  #problem: string | undefined
  #isClosed = false
  #applying: Promise<void> = Promise.resolve()
  #isQueued = false
  /** Whether the tunnels have said what interface there is. */
  #isReady = false
  #isSettled = false
  /** Whether the machine's own network may be another than when it was looked at. */
  #isStale = false

  constructor(options: KernelSharingOptions) {
    this.#options = options
  }

  /** The interface of the tunnels, where there is one. */
  get tun(): string | undefined {
    return this.#tun
  }

  /** What may be used of this machine now, by the ids of devices and phones. */
  get served(): ReadonlyMap<string, readonly string[]> {
    return this.#served
  }

  /** The families that lead to the internet, where that is offered. */
  get outward(): readonly (4 | 6)[] {
    return this.#outward
  }

  /** Why it is not as it is wanted, in words. */
  get problem(): string | undefined {
    return this.#problem
  }

  /** Whether it is known what can be served. */
  get isSettled(): boolean {
    return this.#isSettled
  }

  /** The tunnels have an interface now, or none. */
  handleInterface(name: string | undefined): void {
    this.#applying = this.#applying.then(() => {
      this.#isReady = true
      this.#tun = name
      // They went with the interface before.
      this.#routes = this.#routes.map(({ network }) => ({ network, isUp: false }))
      this.handleNetworkChange()
    })
  }

  /** The machine is elsewhere, or other addresses are needed there. */
  handleNetworkChange(): void {
    this.#isStale = true
    this.apply()
  }

  /** Brings the kernel to what is wanted, once, after whatever is under way. */
  apply(): void {
    if (this.#isQueued) return
    this.#isQueued = true
    this.#applying = this.#applying.then(async () => {
      this.#isQueued = false
      await this.#share().catch(error => this.#fail(error))
      if (this.#isReady && !this.#isSettled && !this.#isClosed) {
        this.#isSettled = true
        this.#changed()
      }
      await this.#route().catch(error => this.#fail(error))
    })
  }

  /** Puts the machine's network back. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#served = new Map()
    this.#isQueued = false
    this.apply()
    await this.#applying
  }

  #changed(): void {
    if (!this.#isClosed) this.#options.onChange()
  }

  #fail(error: unknown): void {
    const { message } = error as Error
    if (message !== this.#problem) this.#options.log.error('networks of devices', { error: own(message) })
    this.#problem = message
  }

  async #share(): Promise<void> {
    const { kernel, sharing } = this.#options
    const wanted = this.#isClosed || this.#tun === undefined ? undefined : sharing(this.#tun)
    const before = this.#shared
    const isStale = this.#isStale
    this.#isStale = false
    if (!isStale && JSON.stringify(wanted?.kernel) === JSON.stringify(before)) return
    if (wanted === undefined && before === undefined) return
    const kept = [...this.#served].flatMap(([id, networks]) => {
      const left = networks.filter(network => wanted?.served.get(id)?.includes(network))
      return left.length === 0 ? [] : [[id, left] as const]
    })
    const isLess = kept.flat(2).length < [...this.#served].flat(2).length
    this.#served = new Map(kept)
    if (isLess) this.#changed()
    const none = before && { ...before, grants: [] }
    const shared = wanted?.kernel ?? none
    // Until it is done nobody knows what holds.
    this.#shared = before && { ...before, own: [] }
    if (shared !== undefined) this.#outward = await kernel.share(shared, before)
    this.#shared = wanted?.kernel
    this.#served = wanted?.served ?? new Map()
    this.#problem = undefined
    this.#changed()
  }

  async #route(): Promise<void> {
    const { kernel, routes } = this.#options
    const wanted = this.#isClosed ? [] : routes()
    if (this.#tun === undefined || JSON.stringify(wanted) === JSON.stringify(this.#routes)) return
    await kernel.route(this.#tun, this.#routes, wanted)
    this.#routes = wanted
    this.#changed()
  }
}
