// Keeps the client's directory fresh. libp2p is loaded for a refresh and let go after it.

import { systemRandom } from '#crypto/random.ts'
import type { Directory } from '#discover/directory.ts'
import { monotonicMs } from '#platform/clock.ts'
import { type Address, isWildcard } from '#wire/address.ts'
import { RefreshTimes } from './client/refresh-times.ts'
import type { Config } from './config.ts'
import type { Log } from './log.ts'

/** How soon it is noticed that there is no way through what is known. */
const LOOK_MS = 5_000

export interface DirectoryKeeperOptions {
  readonly config: Config
  readonly directory: Directory
  readonly log: Log
  readonly onRefreshed: () => void
  /** Whether no route is found in what is known. */
  readonly isStuck: () => boolean
  /** The relays to ask, as multiaddrs: the guards, who know this client's address anyway. */
  readonly guards: () => readonly string[]
  readonly onConnection?: (address: Address) => void
}

export class DirectoryKeeper {
  readonly #options: DirectoryKeeperOptions
  readonly #stop = new AbortController()
  #timer: NodeJS.Timeout | undefined
  #running: Promise<void> = Promise.resolve()
  readonly #times = new RefreshTimes()

  constructor(options: DirectoryKeeperOptions) {
    this.#options = options
  }

  start(): void {
    this.#running = this.#refresh()
  }

  async close(): Promise<void> {
    this.#stop.abort()
    clearTimeout(this.#timer)
    await this.#running
  }

  async #refresh(): Promise<void> {
    const { config, directory, log, onRefreshed, onConnection, guards } = this.#options
    const before = directory.version
    try {
      const { startDiscovery } = await import('#discover/node.ts')
      const node = await startDiscovery({
        role: 'client',
        seed: systemRandom(32),
        listen: [],
        bootstrap: config.network.bootstrap,
        directory,
        allowPrivateAddresses: config.network.allow_private_addresses,
        nowMs: Date.now,
        random: systemRandom,
        furtherSources: guards,
        ...(!isWildcard(config.client.bind) && { sendFrom: config.client.bind }),
        ...(onConnection && { onConnection }),
      })
      try {
        const { answered, failed, accepted } = await node.refresh(this.#stop.signal)
        log.info('directory refreshed', { answered, failed, accepted, relays: directory.size })
      } finally {
        await node.close()
      }
    } catch (error) {
      log.warn('directory not refreshed', { isAbort: (error as Error).name === 'AbortError' })
    }
    if (this.#stop.signal.aborted) return
    const hasChanged = directory.version !== before
    if (hasChanged) onRefreshed()
    this.#times.handleRefreshed(hasChanged, monotonicMs(), 0.8 + 0.4 * ((systemRandom(1)[0] ?? 0) / 255))
    this.#wait()
  }

  #wait(): void {
    const { directory, isStuck } = this.#options
    const waitMs = this.#times.waitMs(directory.size, isStuck(), monotonicMs())
    const next = () => (waitMs <= LOOK_MS ? this.start() : this.#wait())
    this.#timer = setTimeout(next, Math.min(waitMs, LOOK_MS))
  }
}
