// The post of one's own devices: opened when it is first wanted, with the keys that letters are taken for.

import { HopliteError } from '#api/errors.ts'
import { systemRandom } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import type { LineCarrier } from '#discover/line-carrier.ts'
import type { OwnDevice } from '#meet/own-device.ts'
import type { Config } from '../config.ts'
import { hasCarriers, type OpenCarriers, openCarriers } from './letter-carriers.ts'
import { PostOffice } from './post-office.ts'

/** What a key is held for: our own of some generation, or a pairing. */
export type Purpose = { readonly kind: 'device'; readonly generation: number } | { readonly kind: 'pair.status' }

export interface DevicePostOptions {
  readonly config: Config
  /** It is open: what was to be said before waits in the machines. */
  readonly onOpen: () => void
  readonly onOpened: (content: Uint8Array, purpose: Purpose) => void
}

export class DevicePost {
  readonly #options: DevicePostOptions
  #office: PostOffice<Purpose> | undefined
  #opening: Promise<PostOffice<Purpose>> | undefined
  #carriers: OpenCarriers | undefined
  #held = new Map<number, XWingKeyPair>()

  constructor(options: DevicePostOptions) {
    this.#options = options
  }

  /** Undefined while it is not open. */
  get office(): PostOffice<Purpose> | undefined {
    return this.#office
  }

  /** The post office, opened when it is first wanted. Throws NO_CARRIER. */
  open(): Promise<PostOffice<Purpose>> {
    const { config } = this.#options
    if (!hasCarriers(config)) {
      const advice = 'set bootstrap in [network], or rendezvous or folder in [meet]: docs/configuration.md'
      throw new HopliteError('NO_CARRIER', 'reach other devices: there is no way for letters', advice)
    }
    this.#opening ??= this.#openOffice().catch(error => {
      this.#opening = undefined
      throw error
    })
    return this.#opening
  }

  /** The letters that a person carries. Throws NO_CARRIER. */
  async lines(): Promise<LineCarrier> {
    await this.open()
    const lines = this.#carriers?.lines
    if (lines !== undefined) return lines
    const advice = 'set by_hand = true in [meet], and start the daemon anew'
    throw new HopliteError('NO_CARRIER', 'carry letters by hand: that is not wanted here', advice)
  }

  /** Letters for these keys of ours are taken, and for no others of ours. */
  holdOwn({ keys }: OwnDevice): void {
    const office = this.#office
    if (office === undefined) return
    const wanted = new Map(keys.map(({ generation, sealing }) => [generation, sealing]))
    for (const [generation, key] of this.#held) if (!wanted.has(generation)) office.drop(key)
    for (const [generation, key] of wanted)
      if (!this.#held.has(generation)) office.hold(key, { kind: 'device', generation })
    this.#held = wanted
  }

  /** Resolves when it is open, or cannot be. */
  async settled(): Promise<void> {
    await this.#opening?.catch(() => undefined)
  }

  async close(): Promise<void> {
    await this.#office?.close()
    await this.#carriers?.close().catch(() => undefined)
  }

  async #openOffice(): Promise<PostOffice<Purpose>> {
    const { meet } = this.#options.config
    this.#carriers = await openCarriers(this.#options.config)
    this.#office = new PostOffice<Purpose>({
      carriers: this.#carriers.carriers,
      bits: meet.bucket_bits,
      workBits: meet.work_bits,
      intervalMs: meet.interval_ms,
      random: systemRandom,
      nowMs: Date.now,
      onOpened: this.#options.onOpened,
    })
    this.#options.onOpen()
    return this.#office
  }
}
