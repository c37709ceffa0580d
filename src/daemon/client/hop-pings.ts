// Round-trip times to every hop of a route, measured while somebody looks. The exit's is measured by the route itself.

import type { Random } from '#crypto/random.ts'
import type { Command } from '#forward/commands.ts'
import type { Route } from '#route/route.ts'

/** Probes of one session that may be on their way; the oldest is forgotten first. */
const MAX_OUTSTANDING = 32
const MAX_SESSIONS = 16
/** How much of the newest time the smoothed one takes. */
const SMOOTHING = 0.3

export class HopPings {
  readonly #random: Random
  readonly #sent = new Map<string, { readonly session: number; readonly atMs: number }>()
  readonly #rttMs = new Map<number, number>()

  constructor(random: Random) {
    this.#random = random
  }

  /** Probes to the hops before the exit. */
  probe(route: Route, now: number): Command[] {
    return layersBefore(route).flatMap(layer => {
      if (layer.state !== 'established') return []
      const token = this.#random(8)
      this.#sent.set(Buffer.from(token).toString('latin1'), { session: layer.session, atMs: now })
      dropFirst(this.#sent, MAX_OUTSTANDING)
      return [{ kind: 'sendProbe', session: layer.session, claims: true, token } as const]
    })
  }

  handleEcho(session: number, token: Uint8Array, atMs: number): void {
    const key = Buffer.from(token).toString('latin1')
    const sent = this.#sent.get(key)
    if (sent?.session !== session) return
    this.#sent.delete(key)
    const ms = Math.max(atMs - sent.atMs, 0)
    const before = this.#rttMs.get(session) ?? ms
    this.#rttMs.delete(session)
    this.#rttMs.set(session, before + SMOOTHING * (ms - before))
    dropFirst(this.#rttMs, MAX_SESSIONS)
  }

  /** Milliseconds to each hop in order; until a probe came back, what its handshake took. */
  times(route: Route): (number | undefined)[] {
    const before = layersBefore(route).map(({ session, state, handshakeMs }) =>
      state === 'established' ? (this.#rttMs.get(session) ?? handshakeMs) : undefined,
    )
    return [...before, route.rttMs]
  }
}

/** The layers of the way in use: `layers()` gives the exit's first, then these, then those of the spare. */
export function layersBefore(route: Route): ReturnType<Route['layers']> {
  return route.layers().slice(1, route.hops.length)
}

function dropFirst(map: Map<unknown, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return
    map.delete(key)
  }
}
