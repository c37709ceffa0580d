import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer, type IncomingMessage, request } from 'node:http'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { callAction } from './client.ts'
import { HopliteError } from './errors.ts'
import { serveApi } from './server.ts'
import { ACTIONS, type Handlers, type Status } from './table.ts'

const STATUS: Status = {
  ...{
    role: 'client',
    state: 'ready',
    version: '1.2.3',
    pid: 7,
    uptimeMs: 5,
    listening: { proxy: ['127.0.0.1:1080'] },
  },
  ...{ directory: 6, routes: [], sessions: 3, flows: 0, streams: 1, counters: { dropUnknown: 2 }, memoryBytes: 1_000 },
}

function socketIn(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-api-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return path.join(directory, 'control.sock')
}

async function serve(t: TestContext, handlers: Handlers): Promise<string> {
  const socket = socketIn(t)
  const server = await serveApi(handlers, socket)
  t.after(() => server.close())
  return socket
}

function ask(socketPath: string, options: { path: string; method?: string; body?: string | Buffer }) {
  return new Promise<{ status: number; text: string }>((resolve, reject) => {
    const settings = { socketPath, path: options.path, method: options.method ?? 'POST', agent: false as const }
    const sent = request(settings, (response: IncomingMessage) => {
      let text = ''
      response.on('data', chunk => (text += String(chunk)))
      response.on('end', () => resolve({ status: response.statusCode ?? 0, text }))
    })
    sent.on('error', reject)
    sent.end(options.body)
  })
}

test('an action is carried out and its answer has the declared form', async t => {
  const socket = await serve(t, { status: () => STATUS, observe: () => ({ observing: true }) })
  assert.deepEqual(await callAction(socket, 'status', {}), STATUS)
  assert.deepEqual(await callAction(socket, 'observe', { marker: 'x'.repeat(16) }), { observing: true })
})

test('only the owner can open the socket', { skip: process.platform === 'win32' }, async t => {
  const socket = await serve(t, {})
  assert.equal(statSync(socket).mode & 0o777, 0o600)
})

test('a socket that a killed node left behind is replaced', async t => {
  const socket = socketIn(t)
  writeFileSync(socket, '')
  const server = await serveApi({ status: () => STATUS }, socket)
  t.after(() => server.close())
  assert.equal((await callAction(socket, 'status', {})).version, '1.2.3')
})

test('an error of a handler arrives with its code, message and advice', async t => {
  const handlers: Handlers = {
    down: () => {
      throw new HopliteError('STATE_LOCKED', 'stop: it is busy', 'wait')
    },
  }
  const error = await callAction(await serve(t, handlers), 'down', {}).catch((error: unknown) => error)
  assert.ok(error instanceof HopliteError)
  assert.deepEqual([error.code, error.message, error.advice], ['STATE_LOCKED', 'stop: it is busy', 'wait'])
})

test('a bug in a handler, or an answer of the wrong form, says nothing of the inside', async t => {
  const handlers = {
    status: () => ({ ...STATUS, surplus: 'secret' }),
    down: () => {
      throw new TypeError('secret at /home/x')
    },
  } as Handlers
  const socket = await serve(t, handlers)
  for (const name of ['status', 'down']) {
    const { status, text } = await ask(socket, { path: `/v1/${name}`, body: '{}' })
    assert.equal(status, 500)
    assert.doesNotMatch(text, /secret|TypeError|at /)
    assert.equal((JSON.parse(text) as { error: { code: string } }).error.code, 'INTERNAL')
  }
})

test('what is no request of the table is refused with a code, and the server goes on', async t => {
  const socket = await serve(t, { status: () => STATUS, observe: () => ({ observing: true }) })
  const cases: [string, Parameters<typeof ask>[1], number, string][] = [
    ['no such action', { path: '/v1/none' }, 404, 'ACTION_UNKNOWN'],
    ['an action this role has not', { path: '/v1/newRoute', body: '{}' }, 404, 'ACTION_UNKNOWN'],
    ['an inherited name', { path: '/v1/constructor', body: '{}' }, 404, 'ACTION_UNKNOWN'],
    ['another path', { path: '/v1/status/../down' }, 404, 'ACTION_UNKNOWN'],
    ['GET', { path: '/v1/status', method: 'GET' }, 400, 'REQUEST_INVALID'],
    ['no JSON', { path: '/v1/status', body: '{' }, 400, 'REQUEST_INVALID'],
    ['no object', { path: '/v1/status', body: '[]' }, 400, 'REQUEST_INVALID'],
    ['an unknown field', { path: '/v1/status', body: '{"x":1}' }, 400, 'REQUEST_INVALID'],
    ['a wrong value', { path: '/v1/observe', body: '{"marker":"short"}' }, 400, 'REQUEST_INVALID'],
    ['a body too long', { path: '/v1/status', body: Buffer.alloc(1_000_000, 0x20) }, 400, 'REQUEST_INVALID'],
  ]
  for (const [name, options, status, code] of cases) {
    const answer = await ask(socket, options)
    assert.equal(answer.status, status, name)
    assert.equal((JSON.parse(answer.text) as { error: { code: string } }).error.code, code, name)
  }
  assert.equal((await ask(socket, { path: '/v1/status', body: '' })).status, 200)
})

test('garbage on the socket ends that connection and nothing else', async t => {
  const socket = await serve(t, { status: () => STATUS })
  for (const bytes of ['\0\0\0\0\r\n\r\n', 'POST /v1/status HTTP/9.9\r\n\r\n', `GET ${'/'.repeat(100_000)}`]) {
    await new Promise<void>(resolve => {
      const connection = connect(socket, () => connection.write(bytes))
      connection.on('error', () => {})
      connection.on('close', () => resolve())
      connection.resume()
    })
  }
  assert.equal((await callAction(socket, 'status', {})).state, 'ready')
})

test('without a node, or with something else at its socket, the client says that the daemon does not run', async t => {
  const socket = socketIn(t)
  const code = async () =>
    ((await callAction(socket, 'status', {}).catch((error: unknown) => error)) as HopliteError).code
  assert.equal(await code(), 'DAEMON_NOT_RUNNING')
  writeFileSync(socket, 'no socket')
  assert.equal(await code(), 'DAEMON_NOT_RUNNING')
  rmSync(socket)
  const answers = ['hello', '', '{"state":"ready"}', 'null']
  const stranger = createServer((_, response) => response.end(answers.shift()))
  await new Promise<void>(resolve => stranger.listen(socket, resolve))
  t.after(() => stranger.close())
  const codes = [await code(), await code(), await code(), await code()]
  assert.deepEqual(codes, ['DAEMON_NOT_RUNNING', 'DAEMON_NOT_RUNNING', 'INTERNAL', 'INTERNAL'])
})

test('every action stands in the table under its own name, with a summary', () => {
  for (const [key, { name, summary }] of Object.entries(ACTIONS)) {
    assert.equal(name, key)
    assert.match(summary, /^[A-Z].*[^.]$/)
  }
})
