// The demo's network: one page through three hops, and who saw what.

import { fetchAndAsk } from '../demo.ts'
import type { Scenario } from '../scenario.ts'
import { SIX_RELAYS, Testnet } from '../testnet.ts'

export const demo: Scenario = async ({ figure, promise }) => {
  const startedMs = performance.now()
  const net = await Testnet.start({ relays: SIX_RELAYS, hops: 3, proxyPort: 0, observe: true })
  try {
    figure('startMs', Math.round(performance.now() - startedMs))
    const result = await fetchAndAsk(net)
    figure('firstByteMs', result.firstByteMs)
    figure('bytes', result.fetch.bytes)
    promise('the page came with status 200', result.fetch.status === 200)
    promise(
      'the route has three hops of different operators',
      new Set(result.hops.map(({ operator }) => operator)).size === 3,
    )
    const readers = result.observed.filter(({ couldRead }) => couldRead).map(({ role }) => role)
    promise(
      'client, one relay and origin could read the request, and nobody else',
      readers.sort().join() === 'client,origin,relay',
    )
    const both = result.observed.filter(
      ({ role, saw }) => role !== 'client' && saw.includes('client') && saw.includes('origin'),
    )
    promise('no process but the client saw both the client and the origin', both.length === 0)
    promise('every promise of the demo itself held', result.ok)
  } finally {
    await net.stop()
  }
}
