// What a daemon and its part say to each other over the channel between their processes.

import type { ErrorCode } from '#api/errors.ts'
import type { Address } from '#wire/address.ts'
import type { Config } from '../config.ts'
import type { EntryMemory } from '../entry/entry.ts'
import type { PeerCount } from '../entry/entry-plan.ts'

/** What an entry is asked for; `file` has secrets in it. */
export type EntryWish =
  | {
      readonly form: 'tunnel'
      readonly file: string
      readonly peers: PeerCount
      readonly killSwitch: boolean
    }
  | { readonly form: 'listen'; readonly file: string; readonly peers: PeerCount; readonly listen: string }

export type ShareAs = 'peer' | 'relay'

interface Common {
  readonly config: Config
  readonly configFile?: string
  readonly stateDir: string
}

export type PartOrder =
  | (Common & {
      readonly kind: 'entry'
      readonly wish: EntryWish
      readonly memory: EntryMemory
      /** The daemon's own proxy, through which the entry's wallet asks the issuer. */
      readonly proxy?: Address
    })
  | (Common & { readonly kind: 'share'; readonly as: ShareAs })

export type ToPart = { readonly kind: 'order'; readonly order: PartOrder } | { readonly kind: 'stop' }

export type FromPart =
  /** Its loop turns. */
  | { readonly kind: 'alive' }
  | { readonly kind: 'up' }
  /** What the one that takes its place is to know. */
  | { readonly kind: 'memory'; readonly memory: EntryMemory }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string; readonly advice: string }
