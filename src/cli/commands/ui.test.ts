import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

describe('a daemon that ui started', () => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-ui-'))
  const config = path.join(directory, 'hoplite.toml')
  const common = ['--config', config, '--state-dir', path.join(directory, 'state')]
  const state = common.slice(2)
  let url: string

  const hoplite = (...args: string[]) =>
    new Promise<{ code: number; stdout: string; stderr: string }>(resolve => {
      execFile(process.execPath, ['--no-warnings', MAIN, ...args], (error, stdout, stderr) =>
        resolve({ code: error === null ? 0 : Number(error.code), stdout, stderr }),
      )
    })

  before(async () => {
    writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n')
    const { stdout } = await hoplite('ui', '--json', ...common)
    url = (JSON.parse(stdout) as { url: string }).url
  })
  after(async () => {
    await hoplite('down', ...state)
    rmSync(directory, { recursive: true, maxRetries: 3 })
  })

  test('is switched off until somebody turns it on', async () => {
    const { stdout } = await hoplite('status', '--json', ...state)
    assert.equal((JSON.parse(stdout) as { state: string }).state, 'off')
    assert.match(url, /^http:\/\/127\.0\.0\.1:\d+\/#login=[\w-]{43}$/)
  })

  test('serves the page, and a session for the code of the link', async () => {
    const page = await fetch(url)
    assert.match(await page.text(), /<title>Hoplite<\/title>/)
    const code = new URL(url).hash.replace('#login=', '')
    const signedIn = await fetch(new URL('/login', url), { method: 'POST', body: JSON.stringify({ code }) })
    assert.equal(signedIn.status, 200)
    assert.match(signedIn.headers.get('set-cookie') ?? '', /HttpOnly; SameSite=Strict/)
  })

  test('gives tokens to other programs, by actions that are commands', async () => {
    const made = await hoplite('call', 'token.create', '--name', 'a script', '--permission', 'read', ...state)
    const { token, url } = JSON.parse(made.stdout) as { token: string; url: string }
    const ask = (name: string) =>
      fetch(`${url}${name}`, { method: 'POST', headers: { authorization: `Bearer ${token}` }, body: '{}' })
    assert.equal((await ask('status')).status, 200)
    assert.equal((await ask('connect')).status, 403)
    const listed = await hoplite('call', 'token.list', ...state)
    const { tokens } = JSON.parse(listed.stdout) as { tokens: { id: string }[] }
    await hoplite('call', 'token.revoke', '--id', tokens[0]?.id ?? '', ...state)
    assert.equal((await ask('status')).status, 401)
  })

  test('a call with wrong input ends with 64 and says what is missing', async () => {
    const missing = await hoplite('call', 'token.create', '--name', 'x', ...state)
    const wrong = await hoplite('call', 'setRoute', '--hops', '9', ...state)
    assert.deepEqual([missing.code, wrong.code], [64, 64])
    assert.match(missing.stderr, /--permission/)
    assert.match(wrong.stderr, /hops/)
  })

  test('logs shows what it did, and with -f what it does next', async t => {
    const shown = await hoplite('logs', ...state)
    assert.match(shown.stdout, /^\d\d:\d\d:\d\d info {2}client: client is up proxy=127\.0\.0\.1:\d+$/m)
    const none = await hoplite('logs', '-n', '0', ...state)
    assert.equal(none.stdout, '')
    const follower = spawn(process.execPath, ['--no-warnings', MAIN, 'logs', '-f', '-n', '1', ...state], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    t.after(() => follower.kill('SIGKILL'))
    const lines = createInterface({ input: follower.stdout })
    // Its first line says that it follows: what happens from here on must be told.
    await once(lines, 'line')
    const told = new Promise<void>(resolve => lines.on('line', line => /switched on/.test(line) && resolve()))
    await hoplite('call', 'connect', ...state)
    await told
    follower.kill('SIGTERM')
    const [code] = await once(follower, 'exit')
    assert.equal(code, 0)
  })
})
