// Names at the exit, by the DNS servers that the system is configured with. The exit's hosts file is not consulted: the
// names of its own network are nobody's business. Asked directly (c-ares) and not through the system's blocking resolver,
// of which only a few can run at a time: one client's dead names would keep those of all others waiting.

import { Resolver } from 'node:dns/promises'

const TRY_MS = 1_500
const TRIES = 3

/** Every address of a name, in the order in which to try them; rejects with a DNS error code. */
export type Resolve = (name: string) => Promise<readonly string[]>

/** Asks the system's DNS servers for both families. */
export function systemResolve(): Resolve {
  const resolver = new Resolver({ timeout: TRY_MS, tries: TRIES })
  return async name => {
    const [v6, v4] = await Promise.allSettled([resolver.resolve6(name), resolver.resolve4(name)])
    const found = interleave(v6.status === 'fulfilled' ? v6.value : [], v4.status === 'fulfilled' ? v4.value : [])
    if (found.length === 0 && v4.status === 'rejected') throw v4.reason
    return found
  }
}

/** Alternates the families, so that a family that does not work costs one attempt (RFC 8305 §4). */
export function interleave(first: readonly string[], second: readonly string[]): string[] {
  const all: string[] = []
  for (let i = 0; i < Math.max(first.length, second.length); i++) {
    const [a, b] = [first[i], second[i]]
    if (a !== undefined) all.push(a)
    if (b !== undefined) all.push(b)
  }
  return all
}
