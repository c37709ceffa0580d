// The parts of a daemon: an entry to one's own VPN, and what is shared with others. They outlive the client that a person
// sees them beside: it may be started anew after a failure, and they go on.

import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { socketPath } from '#platform/state/directories.ts'
import type { Address } from '#wire/address.ts'
import type { Config } from '../config.ts'
import { entryHelper } from '../entry/entry-changes.ts'
import { own } from '../log.ts'
import type { RunOptions } from '../node.ts'
import type { WalletKeeper } from '../wallet/wallet-keeper.ts'
import { EntryDesk } from './entry-desk.ts'
import { Part } from './part.ts'
import { PART_FOLDERS, PartsFile } from './parts-file.ts'
import { ShareDesk } from './share-desk.ts'

const RESUME_MS = 500
const RESUME_TRIES = 30

export interface PartsOptions extends Pick<RunOptions, 'stateDir' | 'log'> {
  readonly configFile: string | undefined
  readonly config: Config
  /** Whether the whole machine goes through the daemon's own route. */
  readonly hasTunnel: boolean
}

export class Parts {
  readonly #options: PartsOptions
  readonly #entry: Part
  readonly #share: Part
  readonly #entryDesk: EntryDesk
  readonly #shareDesk: ShareDesk
  /** The wallet of the client that runs now. */
  wallet: WalletKeeper | undefined
  /** Where that client's proxy listens. */
  proxy: Address | undefined
  #isResumed = false

  constructor(options: PartsOptions) {
    this.#options = options
    const { stateDir, log, config, configFile } = options
    const kept = new PartsFile(stateDir, log)
    const common = { kept, config, configFile }
    const [entryDir, shareDir] = PART_FOLDERS.map(name => path.join(stateDir, name)) as [string, string]
    this.#entry = new Part({ name: 'the way to your VPN', socket: socketPath(entryDir), log, helper: entryHelper })
    this.#share = new Part({ name: 'sharing', socket: socketPath(shareDir), log })
    const assertEntryFree = (form: 'tunnel' | 'listen') => this.#assertEntryFree(form)
    this.#entryDesk = new EntryDesk({
      ...common,
      part: this.#entry,
      stateDir: entryDir,
      wallet: () => this.wallet,
      proxy: () => this.proxy,
      assertFree: assertEntryFree,
    })
    this.#shareDesk = new ShareDesk({
      ...common,
      part: this.#share,
      stateDir: shareDir,
      wallet: () => this.wallet,
      assertFree: () => this.#assertShareFree(),
    })
  }

  get handlers() {
    return { ...this.#entryDesk.handlers, ...this.#shareDesk.handlers }
  }

  /** Starts again what was on when the daemon ended; what does not start says so. */
  resume(): void {
    if (this.#isResumed) return
    this.#isResumed = true
    for (const desk of [this.#entryDesk, this.#shareDesk]) void this.#resume(desk, RESUME_TRIES)
  }

  async #resume(desk: { resume(): Promise<void> }, tries: number): Promise<void> {
    try {
      await desk.resume()
    } catch (error) {
      const code = error instanceof HopliteError ? error.code : 'INTERNAL'
      // What a daemon that was killed ran may still be ending.
      if (code === 'STATE_LOCKED' && tries > 0) {
        await new Promise(resolve => setTimeout(resolve, RESUME_MS))
        return this.#resume(desk, tries - 1)
      }
      this.#options.log.warn('a part did not start', { code: own(code) })
    }
  }

  /** Ends them in order: what they changed of the machine is undone. */
  async close(): Promise<void> {
    const [entry] = await Promise.allSettled([this.#entryDesk.close(), this.#share.stop()])
    if (entry.status === 'rejected') this.#options.log.warn('the network stays shut: hoplite recover')
  }

  #assertEntryFree(form: 'tunnel' | 'listen'): void {
    this.#assertNoTunnel('start your VPN')
    if (form === 'tunnel' && isThere(this.#share))
      throw new HopliteError(
        'PART_RUNNING',
        'start your VPN: this machine shares with others, whose packets would go into the VPN',
        'stop sharing first',
      )
  }

  #assertShareFree(): void {
    this.#assertNoTunnel('share')
    const { order } = this.#entry
    if (isThere(this.#entry) && order?.kind === 'entry' && order.wish.form === 'tunnel')
      throw new HopliteError(
        'PART_RUNNING',
        "share: this machine's packets go into your VPN, and others' would too",
        'stop your VPN first',
      )
  }

  #assertNoTunnel(what: string): void {
    if (!this.#options.hasTunnel) return
    const why = 'everything this machine says goes through its route'
    throw new HopliteError('PART_RUNNING', `${what}: ${why}`, 'hoplite down, then hoplite up without --tun')
  }
}

function isThere({ state }: Part): boolean {
  return state !== 'off' && state !== 'failed'
}
