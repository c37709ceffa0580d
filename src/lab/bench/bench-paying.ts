// What paying costs a route: downloads over three hops while the relays' free allowance lasts, and the same ones paid for.

import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { startIssuerProcess } from '../credits/issuer-process.ts'
import { fetchThrough } from '../socks-client.ts'
import { type RelayPlan, Testnet } from '../testnet.ts'

const BYTES = 64_000_000
const ROUNDS = 5
/** More than the first round and the free ones need at the guard, and less than two more would. */
const FREE_MIB = Math.ceil(((ROUNDS + 2) * BYTES * 1.1) / 2 ** 20)
const PRICE = 64
const CREDITS = 200
const REDEEM_MS = 60_000
const RELAYS: readonly RelayPlan[] = [
  { host: '127.21.0.1', operator: 'alder', isExit: false },
  { host: '127.22.0.1', operator: 'birch', isExit: false },
  { host: '127.23.0.1', operator: 'cedar', isExit: true },
]

/** Reports the medians of both, and how many credits were paid. */
export async function benchPaying(report: (name: string, value: number, unit: string) => void): Promise<void> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-bench-'))
  const issuer = await startIssuerProcess(directory)
  try {
    const credit = { url: issuer.url, id: issuer.id, price: PRICE, freeMib: FREE_MIB }
    const net = await Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, warmsUp: true, credit })
    try {
      const { codes } = (await issuer.admin('vouchers', '--credits', String(CREDITS))) as { codes: string[] }
      await callAction(socketPath(net.client.stateDir), 'redeemVoucher', { code: codes[0] ?? '' }, REDEEM_MS)
      const proxy = await net.proxy()
      const fetch = () => fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${BYTES}`)
      await fetch()
      const rates = async () => {
        const list: number[] = []
        for (let i = 0; i < ROUNDS; i++) list.push((BYTES * 8) / 1e3 / (await fetch()).totalMs)
        return list.sort((a, b) => a - b)[Math.floor(ROUNDS / 2)] ?? 0
      }
      report('paying.downloadFree', await rates(), 'MbitPerSecond')
      while (((await net.status(net.client))?.counters['credits.paid'] ?? 0) === 0) await fetch()
      await fetch()
      report('paying.downloadPaid', await rates(), 'MbitPerSecond')
      const unpaid = await Promise.all(
        net.relays.map(async relay => (await net.status(relay))?.counters['dropUnpaid'] ?? 0),
      )
      report(
        'paying.dropped',
        unpaid.reduce((sum, count) => sum + count, 0),
        'Packets',
      )
      report('paying.credits', (await net.status(net.client))?.counters['credits.paid'] ?? 0, 'Credits')
    } finally {
      await net.stop()
    }
  } finally {
    await issuer.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}
