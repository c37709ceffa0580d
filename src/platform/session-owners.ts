// Which worker has which session. Bounded by the control plane, which installs no more sessions than it allows.

export class SessionOwners {
  readonly #owners = new Map<number, number>()
  readonly #counts: number[] = []

  /** The worker of a session. */
  find(session: number): number | undefined {
    return this.#owners.get(session)
  }

  add(session: number, worker: number): void {
    this.delete(session)
    this.#owners.set(session, worker)
    this.#counts[worker] = this.count(worker) + 1
  }

  /** Forgets a session; gives the worker that had it. */
  delete(session: number): number | undefined {
    const worker = this.#owners.get(session)
    if (worker === undefined) return undefined
    this.#owners.delete(session)
    this.#counts[worker] = this.count(worker) - 1
    return worker
  }

  /** How many sessions a worker has. */
  count(worker: number): number {
    return this.#counts[worker] ?? 0
  }

  /** The sessions of a worker. */
  of(worker: number): number[] {
    return [...this.#owners].flatMap(([session, owner]) => (owner === worker ? [session] : []))
  }
}
