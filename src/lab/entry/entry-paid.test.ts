// One's own VPN entered through strangers who ask to be paid: what the wallet lacks in the end is what the peers have earned.

import assert from 'node:assert/strict'
import test from 'node:test'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { EntryNetwork } from './entry-network.ts'

const VOUCHER = 20
/** A token pays for 4 MiB. */
const PRICE = 256
const SIZE = 16 * 2 ** 20

test('an entry pays its peers as it goes, and they earn what it paid', async t => {
  const missing = EntryNetwork.missing()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using network = await EntryNetwork.start({ peers: 2, price: PRICE })
  const config = ['--config', network.clientConfig(), '--json']
  const { codes } = (await network.issuerAdmin('vouchers', '--credits', String(VOUCHER))) as { codes: string[] }
  await network.hoplite('me', 'wallet', 'redeem', codes[0] ?? '', ...config)
  await network.hoplite('me', 'entry', network.clientFile(network.server), '--config', network.clientConfig())
  const { bytes } = await network.download(SIZE).done
  assert.equal(bytes, SIZE)

  const { tokens, earned } = await waitFor(
    async () => {
      const wallet = JSON.parse(await network.hoplite('me', 'wallet', ...config)) as { tokens: number }
      const earnings = await Promise.all(network.peerNames.map(name => network.hoplite(name, 'earnings', '--json')))
      const counts = earnings.map(text => JSON.parse(text) as { queued: number; redeemed: number })
      const earned = counts.reduce((sum, { queued, redeemed }) => sum + queued + redeemed, 0)
      return wallet.tokens + earned === VOUCHER ? { tokens: wallet.tokens, earned } : undefined
    },
    'what was paid to be what was earned',
    60_000,
  )
  t.diagnostic(`${earned} credits paid, ${tokens} left`)
  assert.ok(earned >= SIZE / 2 ** 22 && earned <= SIZE / 2 ** 22 + 3, `${earned} credits`)
})
