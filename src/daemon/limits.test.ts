// A node whose process may have few files: it turns others away in time, goes on, and says which limit it has reached.

import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { waitFor } from '#lab/testnet.ts'
import { parseAddress } from '#wire/address.ts'

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
const FILES = 72

test('a client that has all the files it may goes on, and its status says so', {
  skip: process.platform !== 'linux' && 'only Linux says how many files a process has',
  timeout: 60_000,
}, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-files-'))
  t.after(() => rmSync(folder, { recursive: true, maxRetries: 3 }))
  const config = path.join(folder, 'hoplite.toml')
  writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n')
  const words = ['daemon', '--off', '--config', config, '--state-dir', path.join(folder, 'state')]
  const node = [process.execPath, '--no-warnings', MAIN, ...words]
  const child = spawn('sh', ['-c', 'ulimit -n "$1" && shift && exec "$@"', 'sh', String(FILES), ...node], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', chunk => (said += String(chunk)))
  const status = () => callAction(path.join(folder, 'state', 'control.sock'), 'status', {})
  const { listening } = await waitFor(async () => {
    assert.equal(child.exitCode, null, said)
    return status().catch(() => undefined)
  }, 'the node')
  const proxy = parseAddress(listening['proxy']?.[0] ?? '') ?? assert.fail('it has a proxy')

  const greedy = Array.from({ length: 2 * FILES }, (): Socket => connect(proxy).on('error', () => {}))
  t.after(() => greedy.forEach(socket => socket.destroy()))
  const told = await waitFor(async () => {
    const { problem, advice, limits = [] } = await status()
    return limits.some(({ name }) => name === 'open files') ? { problem, advice } : undefined
  }, 'the limit to be told')
  assert.match(
    told.problem ?? '',
    new RegExp(`of the ${FILES} files and sockets|connections to the proxy that were turned`),
  )
  assert.match(told.advice ?? '', /ulimit -n|LimitNOFILE/)
  assert.match(said, /"event":"limit reached","reason":"open files"/)

  for (const socket of greedy) socket.destroy()
  await waitFor(async () => {
    const one = connect(proxy)
    const isServed = await new Promise<boolean>(resolve => {
      one.once('data', () => resolve(true)).once('close', () => resolve(false))
      one.on('error', () => {}).write(Uint8Array.of(5, 1, 0))
    })
    one.destroy()
    return isServed || undefined
  }, 'the next to be let in')
  assert.equal(child.exitCode, null, said)
})
