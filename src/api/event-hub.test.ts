import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { type IncomingMessage, request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { followEvents } from './client.ts'
import { EventHub } from './event-hub.ts'
import { serveApi } from './server.ts'
import type { Told } from './table.ts'

test('a listener hears how things stand, then each event, until it stops', () => {
  const hub = new EventHub(() => [{ name: 'rtt', data: { hops: [] } }])
  const heard: string[] = []
  hub.tell('failover', { silentMs: 1, count: 1 })
  const stop = hub.listen(frame => void heard.push(frame))
  assert.ok(stop && hub.isWatched)
  hub.tell('failover', { silentMs: 2, count: 2 })
  stop()
  hub.tell('failover', { silentMs: 3, count: 3 })
  assert.equal(hub.isWatched, false)
  assert.deepEqual(heard, ['event: rtt\ndata: {"hops":[]}\n\n', 'event: failover\ndata: {"silentMs":2,"count":2}\n\n'])
})

test('a hundred listeners and more are heard, and past the bound one is refused', () => {
  const hub = new EventHub()
  const stops = Array.from({ length: 256 }, () => hub.listen(() => {}))
  assert.ok(stops.every(stop => stop !== undefined))
  assert.equal(
    hub.listen(() => {}),
    undefined,
  )
  stops[0]?.()
  assert.ok(hub.listen(() => {}))
})

test('the typed client hears events over the socket, and ends when it is told to', async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-events-'))
  const hub = new EventHub(() => [{ name: 'rtt', data: { hops: [{ id: 'a', ms: 1.5 }] } }])
  const server = await serveApi({}, path.join(directory, 'control.sock'), hub)
  t.after(async () => {
    await server.close()
    rmSync(directory, { recursive: true })
  })
  const stop = new AbortController()
  const heard: Told[] = []
  for await (const told of followEvents(path.join(directory, 'control.sock'), stop.signal)) {
    heard.push(told)
    if (told.name === 'rtt') hub.tell('failover', { silentMs: 450, count: 1 })
    else stop.abort()
  }
  assert.deepEqual(heard, [
    { name: 'rtt', data: { hops: [{ id: 'a', ms: 1.5 }] } },
    { name: 'failover', data: { silentMs: 450, count: 1 } },
  ])
})

test('who listens when nobody more can is told so, and not cut off', async t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-events-'))
  const hub = new EventHub()
  while (!hub.isFull) hub.listen(() => {})
  const socketPath = path.join(directory, 'control.sock')
  const server = await serveApi({}, socketPath, hub)
  t.after(async () => {
    await server.close()
    rmSync(directory, { recursive: true })
  })
  const answer = await new Promise<IncomingMessage>((resolve, reject) => {
    request({ socketPath, path: '/v1/events', agent: false }, resolve).on('error', reject).end()
  })
  assert.equal(answer.statusCode, 429)
  assert.match((await answer.toArray()).join(''), /"code":"LIMIT_REACHED","message":"tell events: as many/)
})

test('without a node there is nobody to hear', async () => {
  const nobody = followEvents('/nowhere/control.sock', new AbortController().signal)
  await assert.rejects(nobody.next(), { code: 'DAEMON_NOT_RUNNING' })
})
