import assert from 'node:assert/strict'
import { once } from 'node:events'
import { createServer, type Socket } from 'node:net'
import { after, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { type ControlAnswer, REFUSAL } from '#wire/control.ts'
import { dialTcp } from './dial-tcp.ts'
import { ExitStreams, type ExitStreamsOptions } from './exit.ts'
import { ExitPolicy } from './exit-policy.ts'
import { StreamLink } from './link.ts'
import { interleave } from './resolve.ts'

const never = new AbortController().signal

async function listening(): Promise<number> {
  const server = createServer(socket => socket.on('error', () => {}))
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  after(() => server.close())
  const address = server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

function exitTo(port: number, options: Partial<ExitStreamsOptions> = {}): ExitStreams {
  const hosts = ['127.0.0.1', '127.0.0.2']
  const policy = new ExitPolicy({ rules: [], ownAddresses: [], allowPrivate: hosts.map(host => ({ host, port })) })
  const exit = new ExitStreams({ policy, maxStreamsPerSession: 1_024, ...options })
  after(() => exit.close())
  exit.link(1, () => {
    const link = new StreamLink()
    link.attach({ host: '127.0.0.1', port: 9 })
    return link
  })
  return exit
}

const reasonOf = (answer: ControlAnswer) => (answer.kind === 'refused' ? answer.reason : answer.kind)

test('a session opens so many streams at once and so many each second', async () => {
  const port = await listening()
  let now = 0
  const exit = exitTo(port, { newAtOnce: 3, newPerSecond: 10, nowMs: () => now })
  const open = async () => reasonOf(await exit.open(1, 7, { host: '127.0.0.1', port }))
  const first = [await open(), await open(), await open(), await open()]
  assert.deepEqual(first, ['openStream', 'openStream', 'openStream', REFUSAL.tooMany])
  now = 99
  assert.equal(await open(), REFUSAL.tooMany)
  now = 200
  assert.equal(await open(), 'openStream')
  assert.equal(exit.counters.get('opened'), 4)
  assert.equal(exit.counters.get('tooMany'), 2)
})

test('streams of a session that ended do not count for one that gets its number', async () => {
  const port = await listening()
  const exit = exitTo(port)
  await exit.open(1, 7, { host: '127.0.0.1', port })
  assert.equal(exit.streams, 1)
  exit.closeSession(1)
  assert.equal(exit.streams, 0)
  exit.link(1, () => new StreamLink())
  for (let i = 0; i < 50; i++) await turn()
  assert.equal(exit.streams, 0)
})

test('what is being resolved when its session ends is not dialled', async () => {
  const port = await listening()
  const { promise, resolve } = Promise.withResolvers<string[]>()
  const exit = exitTo(port, { resolve: () => promise })
  const answer = exit.open(1, 7, { host: 'slow.example', port })
  exit.closeSession(1)
  resolve(['127.0.0.1'])
  assert.equal(reasonOf(await answer), REFUSAL.generalFailure)
  assert.equal(exit.counters.get('opened'), undefined)
})

test('names are resolved once, and the address that was checked is the one dialled', async () => {
  const port = await listening()
  let asked = 0
  const rebinding = async () => (asked++ === 0 ? ['127.0.0.2', '127.0.0.1'] : ['127.0.0.3'])
  const exit = exitTo(port, { resolve: rebinding })
  // Nobody listens on 127.0.0.2: the next address of the same answer is tried.
  assert.equal(reasonOf(await exit.open(1, 7, { host: 'two.example', port })), 'openStream')
  assert.equal(asked, 1)
  assert.equal(reasonOf(await exit.open(1, 8, { host: 'two.example', port })), REFUSAL.notAllowed)
})

test('a resolver’s answers have their reasons', async () => {
  for (const [code, reason] of [
    ['ENOTFOUND', REFUSAL.nameNotFound],
    ['ENODATA', REFUSAL.nameNotFound],
    ['ETIMEOUT', REFUSAL.timedOut],
    ['ESERVFAIL', REFUSAL.generalFailure],
  ] as const) {
    const exit = exitTo(80, { resolve: () => Promise.reject(Object.assign(new Error('no'), { code })) })
    assert.equal(await exit.resolveTarget({ host: 'x.example', port: 80 }), reason, code)
  }
  const empty = exitTo(80, { resolve: async () => [] })
  assert.equal(await empty.resolveTarget({ host: 'x.example', port: 80 }), REFUSAL.nameNotFound)
})

test('dialling ends with its signal, and says why nothing answered', async () => {
  const port = await listening()
  const stop = new AbortController()
  stop.abort()
  const options = { timeoutMs: 2_000, signal: never }
  assert.equal(await dialTcp(['127.0.0.1'], port, { timeoutMs: 1_000, signal: stop.signal }), REFUSAL.generalFailure)
  assert.equal(await dialTcp(['127.0.0.2', '127.0.0.3'], port, options), REFUSAL.connectionRefused)
  assert.equal(await dialTcp([], port, options), REFUSAL.hostUnreachable)
  const dialled = (await dialTcp(['127.0.0.2', '127.0.0.1'], port, options)) as Socket
  assert.equal(dialled.remoteAddress, '127.0.0.1')
  dialled.destroy()
})

test('the families of a name take turns', () => {
  assert.deepEqual(interleave(['a', 'b', 'c'], ['1']), ['a', '1', 'b', 'c'])
  assert.deepEqual(interleave([], ['1', '2']), ['1', '2'])
})
