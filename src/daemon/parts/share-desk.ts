// What a person at the dashboard does to carry packets for others: becomes a peer or a relay, which is a part of the daemon
// (part.ts), ends that, and draws what it earned.

import { networkInterfaces } from 'node:os'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import type { Handlers, Output } from '#api/table.ts'
import { isPublicAddress } from '#stream/exit-policy.ts'
import { type Config, loadConfig } from '../config.ts'
import { drawFrom, existing, ISSUER_MS, type OwnWallet } from './credits-between.ts'
import type { Part } from './part.ts'
import { configForPart } from './part-config.ts'
import type { ShareAs } from './part-order.ts'
import type { PartsFile } from './parts-file.ts'

export interface ShareDeskOptions {
  readonly part: Pick<Part, 'start' | 'stop' | 'ask' | 'call' | 'state' | 'order' | 'problem'>
  readonly kept: PartsFile
  readonly stateDir: string
  readonly config: Config
  readonly configFile: string | undefined
  readonly wallet: () => OwnWallet | undefined
  /** Throws PART_RUNNING where nothing can be shared beside what else runs. */
  readonly assertFree: () => void
}

export class ShareDesk {
  readonly #options: ShareDeskOptions
  #isStarting = false

  constructor(options: ShareDeskOptions) {
    this.#options = options
  }

  get handlers() {
    return {
      'share.status': () => this.#status(),
      'share.start': ({ as }) => this.#start(as),
      'share.stop': () => this.#stop(),
      'share.collect': () => this.#collect(),
    } satisfies Handlers
  }

  /** Starts what was on. Throws as `start` of a part does. */
  async resume(): Promise<void> {
    const { share } = this.#options.kept
    if (share !== undefined) await this.#begin(share)
  }

  async #start(as: ShareAs): Promise<Output<'share.status'>> {
    const { part, kept } = this.#options
    if (this.#isStarting) throw new HopliteError('PART_RUNNING', 'share: it is being started already', 'wait a moment')
    this.#isStarting = true
    try {
      await part.stop()
      await this.#begin(as)
      kept.setShare(as)
    } finally {
      this.#isStarting = false
    }
    return this.#status()
  }

  async #begin(as: ShareAs): Promise<void> {
    const { part, configFile, stateDir, assertFree } = this.#options
    assertFree()
    // The limits may have been changed since the daemon read them.
    const config = configForPart(configFile === undefined ? this.#options.config : loadConfig(configFile))
    await part.start({ kind: 'share', config, stateDir, ...(configFile !== undefined && { configFile }), as })
  }

  async #stop(): Promise<Output<'share.status'>> {
    const { part, kept } = this.#options
    await part.stop()
    kept.setShare(undefined)
    return this.#status()
  }

  async #status(): Promise<Output<'share.status'>> {
    const { part } = this.#options
    const status = await part.ask('status', {})
    const { state, order, problem } = part
    return {
      state,
      ...(order?.kind === 'share' && { as: order.as }),
      ...(status && { status }),
      publicAddresses: publicAddresses(),
      ...(problem && { problem: problem.message, advice: problem.advice }),
    }
  }

  async #collect(): Promise<Output<'share.collect'>> {
    const { part, stateDir, wallet } = this.#options
    const own = existing(wallet())
    await part.call('handIn', {}, ISSUER_MS)
    const { account = 0, tokens } = await part.call('earnings', {}, ISSUER_MS)
    const collected = await drawFrom(part, own, path.join(stateDir, 'collected'), account + tokens)
    return { collected, tokens: own.balance().tokens }
  }
}

function publicAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(addresses =>
    (addresses ?? []).flatMap(({ address, internal }) => (!internal && isPublicAddress(address) ? address : [])),
  )
}
