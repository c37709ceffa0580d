// Nodes that die in a network that goes on: what comes back, and how soon.

import assert from 'node:assert/strict'
import { availableParallelism } from 'node:os'
import { after, before, describe, test } from 'node:test'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { fetchThrough } from './socks-client.ts'
import { FOUR_RELAYS, type TestNode, Testnet, waitFor } from './testnet.ts'

const reason = process.platform === 'linux' ? undefined : 'all of 127/8 is loopback only on Linux'

describe('after a failure', { skip: reason }, () => {
  let net: Testnet

  before(async () => {
    net = await Testnet.start({ relays: FOUR_RELAYS, hops: 3, proxyPort: 0, observe: true })
  })
  after(() => net?.stop())

  const crash = (node: TestNode, worker?: number) =>
    callAction(socketPath(node.stateDir), 'crash', worker === undefined ? {} : { worker })

  async function assertFetches(user?: string) {
    const options = user === undefined ? {} : { user }
    const fetched = await fetchThrough(await net.proxy(), net.originHost, net.originHttpPort, '/page', options)
    assert.equal(fetched.status, 200)
  }

  test('a relay that is told to stop is gone from the directories of others at once', async t => {
    const bootstrap = net.nodes.find(({ role }) => role === 'bootstrap') ?? assert.fail()
    const spare = net.startRelay({ host: '127.29.0.1', operator: 'elder', isExit: false })
    const knows = (relays: number) =>
      waitFor(async () => ((await net.status(bootstrap))?.directory === relays ? true : undefined), `${relays} relays`)
    await knows(FOUR_RELAYS.length + 1)
    const startedMs = performance.now()
    spare.process.kill('SIGTERM')
    await knows(FOUR_RELAYS.length)
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms`)
    const isSaid = async () => /"event":"descriptor withdrawn","stored":[1-9]/.test(spare.log()) || undefined
    await waitFor(isSaid, 'the relay to say so')
  })

  test('a client that was killed has its route back soon after its start', async t => {
    await net.kill(net.client)
    const startedMs = performance.now()
    net.startClient()
    await net.waitReady()
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms`)
    await assertFetches()
  })

  test('a client whose data plane died has another, and soon its route', async t => {
    const { pid } = (await net.status(net.client)) ?? {}
    const startedMs = performance.now()
    await crash(net.client)
    await waitFor(async () => {
      const status = await net.status(net.client)
      return status?.state === 'ready' && status.uptimeMs < performance.now() - startedMs ? status : undefined
    }, 'the client to be back')
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms`)
    assert.equal((await net.status(net.client))?.pid, pid, 'it is the same process')
    assert.match(net.client.log(), /"event":"data plane failed","error":"move packets: told to crash","failures":1/)
    await assertFetches()
  })

  test('a relay goes on when one of its workers dies, and every user has a route again', async t => {
    if (availableParallelism() < 2) return t.skip('on one core there is one worker')
    const users = Array.from({ length: 8 }, (_, i) => `user${i}`)
    for (const user of users) await assertFetches(user)
    // The third session of a relay gets a worker of its own.
    const statuses = await Promise.all(net.relays.map(relay => net.status(relay)))
    const at = statuses.findIndex(status => (status?.sessions ?? 0) > 2)
    const relay = net.relays[at] ?? assert.fail('no relay has three sessions')
    const before = statuses[at] ?? assert.fail()
    await crash(relay, 1)
    const after = await waitFor(async () => {
      const status = await net.status(relay)
      return (status?.counters['lostSessions'] ?? 0) > 0 ? status : undefined
    }, 'the worker to be gone')
    assert.ok(after.uptimeMs > before.uptimeMs, 'it was not started again')
    assert.ok((after.counters['lostSessions'] ?? 0) < before.sessions, 'it kept the others')
    assert.match(relay.log(), /"event":"data plane worker failed","what":"worker 1 of the data plane: told to crash"/)
    const startedMs = performance.now()
    for (const user of users)
      await waitFor(
        () =>
          assertFetches(user).then(
            () => true,
            () => undefined,
          ),
        `${user} to be back`,
      )
    t.diagnostic(`${Math.round(performance.now() - startedMs)} ms`)
  })

  test('a relay whose data plane died is a relay again, under the same id', async () => {
    const relay = net.relays[0] as TestNode
    const id = (await net.status(relay))?.nodeId
    const crashedMs = performance.now()
    await crash(relay)
    const status = await waitFor(async () => {
      const now = await net.status(relay)
      return now?.state === 'ready' && now.uptimeMs < performance.now() - crashedMs ? now : undefined
    }, 'the relay to be back')
    assert.equal(status.nodeId, id)
  })

  test('a client whose data plane dies again and again stays, switched off, and says what to do', async () => {
    for (let n = 0; n < 8; n++) {
      const { state } = await waitFor(() => net.status(net.client), 'the client to answer')
      if (state === 'off') break
      const crashedMs = performance.now()
      await crash(net.client)
      await waitFor(async () => {
        const now = await net.status(net.client)
        return now !== undefined && now.uptimeMs < performance.now() - crashedMs ? now : undefined
      }, 'the client to start again')
    }
    const status = await waitFor(() => net.status(net.client), 'the client to answer')
    assert.equal(status.state, 'off')
    assert.equal(status.problem, 'move packets: told to crash')
    assert.match(status.advice ?? '', /doctor --bundle/)
    await callAction(socketPath(net.client.stateDir), 'connect', {})
    await net.waitReady()
  })

  test('a client whose guard died while it was away enters by another', async () => {
    const [guard] = (await net.waitReady()).routes[0]?.hops ?? []
    assert.ok(guard)
    await net.kill(net.client)
    await net.kill(net.at(guard.address) as TestNode)
    net.startClient()
    await net.waitReady()
    await assertFetches()
  })
})
