// A long download while hops are killed: guard, then middle, then exit.

import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { type RelayPlan, type TestNode, Testnet, waitFor } from '../testnet.ts'

const GIB = 2 ** 30

/** Ten relays of five operators; four may exit. */
const RELAYS: readonly RelayPlan[] = ['alder', 'birch', 'cedar', 'dogwood', 'elm'].flatMap((operator, i) =>
  [0, 1].map(n => ({ host: `127.${30 + 2 * i + n}.0.1`, operator, isExit: i >= 3 })),
)

export const failover: Scenario = async bench => {
  const net = await Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, warmsUp: true })
  try {
    await net.waitReady(true)
    await killBeforeExit(net, bench)
    await killExit(net, bench)
  } finally {
    await net.stop()
  }
}

async function killBeforeExit(net: Testnet, { say, figure, promise, size = GIB }: Bench): Promise<void> {
  const kills = [
    { name: 'guard', position: 0, at: size * 0.25 },
    { name: 'middle', position: 1, at: size * 0.6 },
  ]
  let killing = Promise.resolve()
  const onBytes = (total: number) => {
    const next = kills[0]
    if (next === undefined || total < next.at) return
    kills.shift()
    killing = killing.then(async () => {
      const hop = await hopAt(net, next.position)
      say(`  kill the ${next.name}, ${hop.name}, after ${Math.round(total / 2 ** 20)} MiB`)
      await net.kill(hop)
    })
  }
  const fetched = await fetchThrough(await net.proxy(), net.originHost, net.originHttpPort, `/bytes/${size}`, {
    onBytes,
  })
  await killing
  figure('downloadBytes', fetched.bytes)
  figure('downloadMbitPerSecond', Math.round((fetched.bytes * 8) / 1e3 / fetched.totalMs))
  figure('longestStallMs', Math.round(fetched.longestStallMs))
  promise(
    'the download is whole, with the right SHA-256',
    fetched.bytes === size && fetched.sha256 === patternHash(size),
  )
  promise('guard and middle were killed on the way', kills.length === 0)
  promise('the longest stall is under 3 s', fetched.longestStallMs < 3_000)
}

async function killExit(net: Testnet, { say, figure, promise }: Bench): Promise<void> {
  await net.waitReady(true)
  const proxy = await net.proxy()
  let killedMs = 0
  let killed: Promise<void> | undefined
  const old = fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${GIB}`, {
    onBytes: total => {
      if (total < 8 * 2 ** 20 || killed !== undefined) return
      killed = hopAt(net, 2).then(async exit => {
        say(`  kill the exit, ${exit.name}`)
        killedMs = performance.now()
        await net.kill(exit)
      })
    },
  }).then(
    () => 'finished',
    () => 'reset',
  )
  const outcome = await Promise.race([old, new Promise(resolve => setTimeout(() => resolve('hangs'), 30_000))])
  const resetMs = performance.now() - killedMs
  figure('exitKillToResetMs', Math.round(resetMs))
  promise('the old connection is reset within 3 s of the exit’s death', outcome === 'reset' && resetMs < 3_000)
  const works = await waitFor(
    () =>
      fetchThrough(proxy, net.originHost, net.originHttpPort, '/page/again').then(
        ({ status }) => status || undefined,
        () => undefined,
      ),
    'a new connection',
  )
  const newMs = performance.now() - killedMs
  figure('exitKillToNewConnectionMs', Math.round(newMs))
  promise('a new connection works within 3 s of the exit’s death', works === 200 && newMs < 3_000)
}

/** The process that is the hop at `position` of the client's route now. */
async function hopAt(net: Testnet, position: number): Promise<TestNode> {
  const status = await net.status(net.client)
  const address = status?.routes[0]?.hops[position]?.address ?? ''
  const node = net.at(address)
  if (node === undefined) throw new Error(`no hop ${position} in the route`)
  return node
}
