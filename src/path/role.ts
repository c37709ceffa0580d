// Which side nominates. Exactly one is controlling; if both think so, or neither, the tie-breaker decides (RFC 8445 §7.3.1.1).

import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import type { DecodedStun } from '#wire/stun.ts'
import { conflictingTieBreaker } from './check-message.ts'

export class Role {
  isControlling: boolean
  readonly tieBreaker: Uint8Array

  constructor(isControlling: boolean, random: Random) {
    this.isControlling = isControlling
    this.tieBreaker = copyBytes(random(8))
  }

  /** What a check of the peer makes of it; `peerMustChange` asks for a 487. */
  settle(check: DecodedStun): 'agreed' | 'changed' | 'peerMustChange' {
    const theirs = conflictingTieBreaker(check, this.isControlling)
    if (theirs === undefined) return 'agreed'
    const isOursLarger = Buffer.compare(this.tieBreaker, theirs) >= 0
    if (isOursLarger === this.isControlling) return 'peerMustChange'
    this.isControlling = !this.isControlling
    return 'changed'
  }

  /** The peer refused a check of that role. */
  yield(wasControlling: boolean): void {
    if (wasControlling === this.isControlling) this.isControlling = !wasControlling
  }
}
