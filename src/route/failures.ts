// Which relays failed lately, and how much that says. A pure machine; nothing of it is kept in a file.
//
// A failure while other relays are heard is the relay's own, and it is left alone, longer each time. While nobody at all is heard
// it is more likely the network that is gone: such a failure is doubtful, keeps the relay from being asked again at once, and is
// forgotten as soon as anybody answers. Else an outage of a minute would use up the guards, and lead to strangers.

const FIRST_AVOID_MS = 20_000
const MAX_AVOID_MS = 600_000
/** A new route waits for nobody: it does without relays that failed and have not answered since, for this long. */
const DOUBT_MS = 900_000
const MAX_AVOIDED = 1_024
/** A relay that failed as often in a row, and lately, is there no more. */
const GONE_FAILURES = 3
/** For so long after the first doubtful failure the same relays are asked again and again before any other is. */
const PATIENCE_MS = 90_000

interface Failed {
  readonly untilMs: number
  readonly doubtedUntilMs: number
  readonly failures: number
}

export class Failures {
  /** Of too many the oldest is forgotten. */
  readonly #failed = new Map<string, Failed>()
  readonly #doubtful = new Set<string>()
  #nobodySinceMs: number | undefined

  /** `isDoubtful`: nobody else was heard either. */
  handleFailure(id: string, isDoubtful: boolean, now: number): void {
    if (isDoubtful) {
      this.#nobodySinceMs ??= now
      this.#doubtful.add(id)
      const [oldest] = this.#doubtful
      if (this.#doubtful.size > MAX_AVOIDED && oldest !== undefined) this.#doubtful.delete(oldest)
      return
    }
    const failures = (this.#failed.get(id)?.failures ?? 0) + 1
    this.#failed.delete(id)
    const untilMs = now + Math.min(FIRST_AVOID_MS * 2 ** (failures - 1), MAX_AVOID_MS)
    this.#failed.set(id, { untilMs, doubtedUntilMs: now + DOUBT_MS, failures })
    const [oldest] = this.#failed.keys()
    if (this.#failed.size > MAX_AVOIDED && oldest !== undefined) this.#failed.delete(oldest)
  }

  /** These relays answered. */
  handleSuccess(ids: readonly string[]): void {
    for (const id of ids) this.#failed.delete(id)
    this.#doubtful.clear()
    this.#nobodySinceMs = undefined
  }

  /**
   * Everybody has been asked in vain and nobody was heard: those who failed doubtfully may be asked once more. False when that
   * has gone on for long enough, or nobody did.
   */
  askAgain(now: number): boolean {
    const isPatient = this.#nobodySinceMs !== undefined && now - this.#nobodySinceMs < PATIENCE_MS
    if (!isPatient || this.#doubtful.size === 0) return false
    this.#doubtful.clear()
    return true
  }

  /** Who is left alone now. */
  avoided(now: number): Set<string> {
    return this.#where(({ untilMs }) => untilMs > now, this.#doubtful)
  }

  /** Who has failed and not answered since. */
  doubted(now: number): Set<string> {
    return this.#where(({ doubtedUntilMs }) => doubtedUntilMs > now, this.#doubtful)
  }

  /** Who failed again and again: waiting for them is in vain. */
  gone(now: number): Set<string> {
    return this.#where(({ untilMs, failures }) => untilMs > now && failures >= GONE_FAILURES, [])
  }

  #where(fits: (failed: Failed) => boolean, also: Iterable<string>): Set<string> {
    return new Set([...[...this.#failed].flatMap(([id, failed]) => (fits(failed) ? id : [])), ...also])
  }
}
