// What is taken of the offer of somebody who is not known: few addresses, of few hosts, and none that only means something here.
// Without this a stranger could have us send checks to machines of our own home, or to many machines of others.

import type { PathOffer } from '#wire/path-offer.ts'

const MAX_CANDIDATES = 8
const MAX_HOSTS = 3

/** The offer with the candidates that are checked; `mayCheck` says which hosts may be. */
export function ofStranger(offer: PathOffer, mayCheck: (host: string) => boolean): PathOffer {
  const hosts = new Set<string>()
  const candidates = offer.candidates
    .filter(({ kind, address: { host, port } }) => kind !== 'relayed' && port > 0 && mayCheck(host))
    .filter(({ address: { host } }) => hosts.has(host) || (hosts.size < MAX_HOSTS && hosts.add(host)))
    .slice(0, MAX_CANDIDATES)
  return { ...offer, candidates }
}
