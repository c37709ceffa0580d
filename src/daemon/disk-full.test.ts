import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { waitFor } from '#lab/testnet.ts'

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
const DISK_BYTES = 64 * 1024

test('a node goes on when the disk is full, says so, and writes again when it is not', async t => {
  if (skipUnless(t, process.platform === 'linux' && process.getuid?.() === 0, 'it takes root and Linux to mount'))
    return
  if (skipUnless(t, hasTool('unshare'), 'unshare is not installed', { tool: 'unshare' })) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-disk-'))
  t.after(() => rmSync(folder, { recursive: true, maxRetries: 3 }))
  const disk = path.join(folder, 'disk')
  mkdirSync(disk)
  const { status } = spawnSync('unshare', ['--mount', 'mount', '-t', 'tmpfs', 'none', disk], { stdio: 'ignore' })
  if (skipUnless(t, status === 0, 'this machine lets nobody mount')) return
  writeFileSync(path.join(folder, 'hoplite.toml'), '[client]\nproxy = "127.0.0.1:0"\n')
  const words = [
    'daemon',
    '--off',
    '--config',
    path.join(folder, 'hoplite.toml'),
    '--state-dir',
    path.join(disk, 'state'),
  ]
  // A disk of its own, which nobody else sees: it goes with the process.
  const script = 'mount -t tmpfs -o "size=$1" none "$2" && shift 2 && exec "$@"'
  const node = [process.execPath, '--no-warnings', MAIN, ...words]
  const child = spawn('unshare', ['--mount', 'sh', '-c', script, 'sh', String(DISK_BYTES), disk, ...node], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stderr.on('data', chunk => (said += String(chunk)))
  const inside = path.join(`/proc/${child.pid}/root`, disk)
  const socket = path.join(inside, 'state', 'control.sock')
  await waitFor(async () => {
    if (child.exitCode !== null) return true
    return callAction(socket, 'status', {}).catch(() => undefined)
  }, 'the node')
  assert.equal(child.exitCode, null, said)

  const filler = path.join(inside, 'filler')
  assert.throws(() => writeFileSync(filler, Buffer.alloc(2 * DISK_BYTES)), { code: 'ENOSPC' })
  await callAction(socket, 'token.create', { name: 'first', permission: 'read' })
  const isTold = async () => /"level":"error".*"event":"state file not written"/.test(said) || undefined
  await waitFor(isTold, 'the log to say so')
  const full = await callAction(socket, 'status', {})
  assert.equal(full.state, 'off')
  assert.match(full.problem ?? '', /^0\.\d MiB are left on the disk where the state is/)
  assert.match(full.advice ?? '', /make room/)

  rmSync(filler)
  said = ''
  await callAction(socket, 'token.create', { name: 'second', permission: 'read' })
  assert.doesNotMatch(said, /not written/)
  const { tokens } = await callAction(socket, 'token.list', {})
  assert.deepEqual(
    tokens.map(({ name }) => name),
    ['first', 'second'],
  )
  const ended = new Promise(resolve => child.once('exit', resolve))
  await callAction(socket, 'down', {})
  assert.equal(await ended, 0, said)
})
