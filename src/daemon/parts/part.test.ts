// A part and its process: what is said to it, how it ends, when it is started again, and that it ends with its daemon.

import assert from 'node:assert/strict'
import { type ChildProcess, fork, spawn } from 'node:child_process'
import { EventEmitter } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { COLD, waitFor } from '#lab/testnet.ts'
import { socketPath } from '#platform/state/directories.ts'
import { defaultConfig, loadConfig } from '../config.ts'
import { openLog } from '../log.ts'
import { Part } from './part.ts'
import { configForPart } from './part-config.ts'
import type { FromPart, PartOrder, ToPart } from './part-order.ts'

const KEY = 'yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk='
const FILE = `[Interface]
PrivateKey = ${KEY}
Address = 10.2.0.2/32
[Peer]
PublicKey = xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=
AllowedIPs = 0.0.0.0/0
Endpoint = 127.0.0.9:51820
`
const SHARE: PartOrder = { kind: 'share', as: 'peer', config: defaultConfig(), stateDir: '/nowhere' }
const silent = openLog(defaultConfig(), 'test', { isTTY: false, write: () => true } as unknown as NodeJS.WriteStream)

/** A process that does what the test says. */
class FakeChild extends EventEmitter {
  readonly heard: ToPart[] = []
  connected = true
  exitCode: number | null = null
  signalCode = null
  send(message: ToPart): void {
    this.heard.push(message)
    if (message.kind === 'stop') setImmediate(() => this.end(0))
  }
  say(message: FromPart): void {
    this.emit('message', message)
  }
  end(code: number): void {
    this.exitCode = code
    this.connected = false
    this.emit('exit')
  }
  kill(): void {}
}

function fake(): { readonly part: Part; readonly children: FakeChild[] } {
  const children: FakeChild[] = []
  const launch = () => {
    const child = new FakeChild()
    children.push(child)
    return child as unknown as ChildProcess
  }
  return { part: new Part({ name: 'a part', socket: '/nowhere/control.sock', log: silent, launch }), children }
}

test('a part that cannot start is left alone, with the reason that it gave', async () => {
  const { part, children } = fake()
  const started = part.start(SHARE)
  children[0]?.say({ kind: 'failed', code: 'ADDRESS_IN_USE', message: 'listen: it is taken', advice: 'choose another' })
  children[0]?.end(1)
  await assert.rejects(started, { code: 'ADDRESS_IN_USE', message: 'listen: it is taken', advice: 'choose another' })
  assert.equal(part.state, 'failed')
  assert.equal(children.length, 1)
})

test('one that ends without a word gets words of ours', async () => {
  const { part, children } = fake()
  const started = part.start(SHARE)
  children[0]?.end(7)
  await assert.rejects(started, { code: 'PART_FAILED', message: /code 7/ })
})

test('a second start while it runs is refused, and the first goes on', async () => {
  const { part, children } = fake()
  const started = part.start(SHARE)
  await assert.rejects(part.start(SHARE), { code: 'PART_RUNNING' })
  children[0]?.say({ kind: 'up' })
  await started
  await assert.rejects(part.start(SHARE), { code: 'PART_RUNNING' })
  assert.deepEqual([part.state, children.length], ['running', 1])
})

test('one that dies after it was up is started again, later each time, until it is stopped', async t => {
  t.mock.timers.enable({ apis: ['setTimeout'] })
  const { part, children } = fake()
  const started = part.start(SHARE)
  children[0]?.say({ kind: 'up' })
  await started
  children[0]?.end(1)
  assert.equal(part.state, 'waiting')
  t.mock.timers.tick(499)
  assert.equal(children.length, 1)
  t.mock.timers.tick(1)
  assert.equal(children.length, 2)
  children[1]?.say({ kind: 'failed', code: 'NAME_NOT_FOUND', message: 'look up', advice: 'check' })
  children[1]?.end(1)
  assert.deepEqual([part.state, part.problem?.code], ['waiting', 'NAME_NOT_FOUND'])
  t.mock.timers.tick(999)
  assert.equal(children.length, 2)
  t.mock.timers.tick(1)
  assert.equal(children.length, 3)
  children[2]?.say({ kind: 'up' })
  assert.deepEqual([part.state, part.problem], ['running', undefined])
  const stopped = part.stop()
  assert.equal(children[2]?.heard.at(-1)?.kind, 'stop')
  await stopped
  t.mock.timers.tick(60_000)
  assert.deepEqual([part.state, children.length], ['off', 3])
})

test('one that takes the place of another knows what that one found out', async () => {
  const { part, children } = fake()
  const order = { ...SHARE, kind: 'entry', wish: { form: 'listen', file: FILE, peers: 1, listen: '127.0.0.1:0' } }
  const started = part.start({ ...order, memory: {} } as unknown as PartOrder)
  children[0]?.say({ kind: 'memory', memory: { wasUp: true } })
  children[0]?.say({ kind: 'up' })
  await started
  assert.equal(part.order?.kind === 'entry' && part.order.memory.wasUp, true)
  await part.stop()
})

test('where no process may be started, that is what is said', async () => {
  const launch = () => {
    throw Object.assign(new Error('no'), { code: 'ERR_ACCESS_DENIED' })
  }
  const part = new Part({ name: 'a part', socket: '/nowhere/control.sock', log: silent, launch })
  await assert.rejects(part.start(SHARE), { code: 'PART_FAILED', message: /ERR_ACCESS_DENIED/ })
  assert.equal(part.state, 'failed')
})

const HANGS = `
  process.send({ kind: 'alive' })
  process.on('message', ({ kind }) => {
    if (kind === 'stop') process.exit(0)
    process.send({ kind: 'up' })
    if (process.env.HANGS === 'yes') setTimeout(() => { for (;;) {} }, 20)
    else setInterval(() => process.send({ kind: 'alive' }), 50)
  })
`

test('a real process whose loop is blocked is ended and started again, and one whose loop turns is left alone', async t => {
  const script = path.join(folder(t), 'hangs.cjs')
  writeFileSync(script, HANGS)
  const children: ChildProcess[] = []
  const launch = () => {
    const child = fork(script, { env: { HANGS: children.length === 0 ? 'yes' : 'no' } })
    children.push(child)
    t.after(() => child.kill('SIGKILL'))
    return child
  }
  const part = new Part({ name: 'a part', socket: '/nowhere/control.sock', log: silent, launch, beatMs: 300 })
  await part.start(SHARE)
  await waitFor(async () => (part.state === 'waiting' ? true : undefined), 'its end')
  assert.deepEqual([children[0]?.signalCode, part.problem?.message], ['SIGKILL', 'run a part: its process hung'])
  await waitFor(async () => (part.state === 'running' ? true : undefined), 'the next one')
  await new Promise(resolve => setTimeout(resolve, 3_000))
  assert.deepEqual([part.state, children.length, part.problem], ['running', 2, undefined])
  await part.stop()
})

function folder(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-part-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

test('a real process takes its order over the channel: no secret is in its words or its environment', async t => {
  const stateDir = folder(t)
  const part = new Part({ name: 'a part', socket: socketPath(stateDir), log: silent })
  t.after(() => part.stop())
  const wish = { form: 'listen', file: FILE, peers: 1, listen: '127.0.0.1:0' } as const
  await part.start({ kind: 'entry', config: defaultConfig(), stateDir, wish, memory: {} })
  const status = await part.call('status', {})
  assert.equal(status.role, 'entry')
  assert.deepEqual(await part.call('entry.newPeer', {}), { entries: 1 })
  if (process.platform === 'linux')
    for (const what of ['cmdline', 'environ'])
      assert.ok(!readFileSync(`/proc/${status.pid}/${what}`, 'latin1').includes(KEY.slice(0, 20)), what)
  await part.stop()
  await assert.rejects(part.call('status', {}), { code: 'DAEMON_NOT_RUNNING' })
})

test('a real process that cannot start says why, in words that hold nothing of the file', async t => {
  const stateDir = folder(t)
  const part = new Part({ name: 'a part', socket: socketPath(stateDir), log: silent })
  const wish = { form: 'listen', file: FILE.replace('[Peer]', 'Oops = yes\n[Peer]'), peers: 1, listen: '127.0.0.1:0' }
  const order = { kind: 'entry', config: defaultConfig(), stateDir, wish, memory: {} } as unknown as PartOrder
  const error = await part.start(order).then(
    () => assert.fail('it started'),
    (error: unknown) => error,
  )
  assert.ok(error instanceof HopliteError && error.code === 'ENTRY_FILE_INVALID')
  assert.match(error.message, /line 4/)
  assert.ok(![error.message, error.advice].some(text => /Oops|yAnz5/.test(text)))
})

test('a daemon starts again what was on, and what it runs ends with it even when it is killed', async t => {
  const directory = folder(t)
  const stateDir = path.join(directory, 'state')
  const config = path.join(directory, 'hoplite.toml')
  const bootstrap = '/ip4/127.0.0.1/tcp/9/p2p/12D3KooWDpJ7As7BWAwRMfu1VU2WCqNjvq387JEYKDBj4kx6nXTN'
  const lines = [
    '[network]',
    `bootstrap = ["${bootstrap}"]`,
    '[client]',
    'proxy = "127.0.0.1:0"',
    '[relay]',
    'listen = "127.0.0.1:0"',
  ]
  writeFileSync(
    config,
    [...lines, 'control_listen = "127.0.0.1:0"', '[meet]', 'gossip = false', ...COLD, ''].join('\n'),
  )
  const main = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
  const start = () => {
    const words = ['--no-warnings', main, 'daemon', '--off', '--config', config, '--state-dir', stateDir]
    const child = spawn(process.execPath, words, { stdio: 'ignore' })
    t.after(() => child.kill('SIGKILL'))
    return child
  }
  const socket = socketPath(stateDir)
  const shared = () =>
    waitFor(async () => {
      const { state, status } = (await callAction(socket, 'share.status', {}).catch(() => undefined)) ?? {}
      return state === 'running' && status !== undefined ? status : undefined
    }, 'sharing')
  const first = start()
  await waitFor(async () => callAction(socket, 'status', {}).catch(() => undefined), 'the daemon')
  assert.equal(loadConfig(config).peer.enabled, false)
  const [one, two] = await Promise.allSettled([
    callAction(socket, 'share.start', { as: 'peer' }, 120_000),
    callAction(socket, 'share.start', { as: 'peer' }, 120_000),
  ])
  assert.deepEqual([one.status, two.status], ['fulfilled', 'rejected'])
  const { pid, role } = await shared()
  assert.equal(role, 'peer')
  first.kill('SIGKILL')
  await waitFor(async () => (isAlive(pid) ? undefined : true), 'the end of what it ran')
  start()
  const { pid: again } = await shared()
  assert.notEqual(again, pid)
  await callAction(socket, 'share.stop', {}, 120_000)
  assert.ok(!isAlive(again))
  await callAction(socket, 'down', {})
  await waitFor(async () => (existsSync(path.join(stateDir, 'daemon.pid')) ? undefined : true), 'its end')
})

test('a part is not begun where nothing says how others could be found', () => {
  assert.throws(() => configForPart(defaultConfig()), { code: 'CONFIG_INVALID' })
})

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch {
    return false
  }
}
