// Many streams, and many bytes: 500 streams at once, 100 new ones a second for a minute, then a long transfer, with the
// memory of the client and of a relay before and after.

import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { fetchThrough, socksConnect } from '../socks-client.ts'
import { SIX_RELAYS, Testnet } from '../testnet.ts'

const AT_ONCE = 500
const PER_SECOND = 100
const SECONDS = 60
const LIMIT = 200 * 2 ** 20

export const load: Scenario = async bench => {
  const net = await Testnet.start({ relays: SIX_RELAYS, hops: 3, proxyPort: 0, observe: false, warmsUp: true })
  try {
    await net.waitReady(true)
    await manyAtOnce(net, bench)
    await manyNew(net, bench)
    await longTransfer(net, bench)
  } finally {
    await net.stop()
  }
}

async function manyAtOnce(net: Testnet, { figure, promise }: Bench): Promise<void> {
  const proxy = await net.proxy()
  const startedMs = performance.now()
  const opened = await Promise.allSettled(
    Array.from({ length: AT_ONCE }, () => socksConnect(proxy, net.originHost, net.originHttpPort)),
  )
  figure('openedAtOnce', opened.filter(({ status }) => status === 'fulfilled').length)
  figure('openedAtOnceMs', Math.round(performance.now() - startedMs))
  const answered = await Promise.all(
    opened.map(async (result, i) => {
      if (result.status === 'rejected') return false
      const socket = result.value
      socket.write(`GET /page/${i} HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n`)
      let text = ''
      for await (const chunk of socket) text += (chunk as Buffer).toString('latin1')
      return text.includes(`/page/${i}`)
    }),
  )
  promise(`${AT_ONCE} streams at once are all served`, answered.every(Boolean))
}

async function manyNew(net: Testnet, { figure, promise }: Bench): Promise<void> {
  const proxy = await net.proxy()
  const running: Promise<boolean>[] = []
  const startedMs = performance.now()
  let slowestMs = 0
  for (let i = 0; i < PER_SECOND * SECONDS; i++) {
    const wait = startedMs + (i * 1000) / PER_SECOND - performance.now()
    if (wait > 0) await new Promise(resolve => setTimeout(resolve, wait))
    const fetched = fetchThrough(proxy, net.originHost, net.originHttpPort, `/page/${i}`)
    running.push(
      fetched.then(
        ({ status, firstByteMs }) => {
          slowestMs = Math.max(slowestMs, firstByteMs)
          return status === 200
        },
        () => false,
      ),
    )
  }
  const results = await Promise.all(running)
  figure('newStreams', results.length)
  figure('slowestFirstByteMs', Math.round(slowestMs))
  promise(`${PER_SECOND} new streams a second for ${SECONDS} s, none lost`, results.every(Boolean))
}

async function longTransfer(net: Testnet, { say, figure, promise, size = 2 ** 30 }: Bench): Promise<void> {
  const proxy = await net.proxy()
  const samples: number[] = []
  const relays: number[] = []
  const sample = async () => {
    samples.push((await net.status(net.client))?.memoryBytes ?? 0)
    for (const relay of net.relays) relays.push((await net.status(relay))?.memoryBytes ?? 0)
  }
  let next = 0
  const onBytes = (total: number) => {
    if (total < next) return
    next += size / 20
    void sample()
  }
  say(`  ${size} bytes in one stream`)
  const got = await fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${size}`, { onBytes })
  await sample()
  const half = samples.slice(Math.floor(samples.length / 2))
  figure('transferBytes', got.bytes)
  figure('transferMbitPerSecond', Math.round((got.bytes * 8) / 1e3 / got.totalMs))
  figure('clientPeakMiB', Math.round(Math.max(...samples) / 2 ** 20))
  figure('relayPeakMiB', Math.round(Math.max(...relays) / 2 ** 20))
  figure('clientGrowthInSecondHalfMiB', Math.round(((half.at(-1) ?? 0) - (half[0] ?? 0)) / 2 ** 20))
  promise('the transfer is whole, with the right SHA-256', got.sha256 === patternHash(size))
  promise('the client stays under 200 MiB', Math.max(...samples) < LIMIT)
  promise('each relay stays under 200 MiB', Math.max(...relays) < LIMIT)
}
