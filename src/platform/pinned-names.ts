// Names whose addresses were looked up while that was possible: connections to them are made when no name can be asked for any
// more, because the machine's network is shut and what would open it again is yet to be reached.

import dns from 'node:dns'
import { parseIp } from '#wire/address.ts'

type Lookup = (
  name: string,
  options: { readonly all?: boolean },
  done: (error: Error | null, address: unknown, family?: number) => void,
) => void

/** From now on these names have these addresses for the whole process; others are looked up as before. Call the result to end it. */
export function pinNames(addresses: ReadonlyMap<string, string>): () => void {
  const before = dns.lookup
  const asBefore = before as unknown as Lookup
  const lookup: Lookup = (name, options, done) => {
    const address = addresses.get(name)
    if (address === undefined || typeof done !== 'function') return asBefore(name, options, done)
    const family = parseIp(address)?.length === 16 ? 6 : 4
    process.nextTick(() => (options.all === true ? done(null, [{ address, family }]) : done(null, address, family)))
  }
  // Whoever connects asks for it anew each time.
  dns.lookup = Object.assign(lookup, before) as unknown as typeof dns.lookup
  return () => {
    dns.lookup = before
  }
}
