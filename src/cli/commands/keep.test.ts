import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath, pathToFileURL } from 'node:url'
import { callAction } from '#api/client.ts'
import { waitFor } from '#lab/testnet.ts'
import { socketPath } from '#platform/state/directories.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
/** Loaded before the node: a file of this name blocks its loop, for good. */
const BLOCKS = `
  import { existsSync, rmSync } from 'node:fs'
  const { HANGS, HOPLITE_KEPT } = process.env
  if (HOPLITE_KEPT) setInterval(() => {
    if (!existsSync(HANGS)) return
    rmSync(HANGS)
    for (;;) {}
  }, 20).unref()
`

function keep(
  t: TestContext,
  lines: string,
): { child: ChildProcess; socket: string; hangs: string; said: () => string } {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-keep-'))
  t.after(() => rmSync(folder, { recursive: true, force: true, maxRetries: 5 }))
  const [config, stateDir] = [path.join(folder, 'hoplite.toml'), path.join(folder, 'state')]
  // What a node that root started sees of it.
  mkdirSync(stateDir, { mode: 0o700 })
  const [script, hangs] = [path.join(stateDir, 'blocks.mjs'), path.join(stateDir, 'hangs')]
  writeFileSync(config, lines)
  writeFileSync(script, BLOCKS)
  const node = ['bootstrap', '--config', config, '--state-dir', stateDir]
  const flags = ['--no-warnings', '--import', pathToFileURL(script).href]
  const child = spawn(process.execPath, [...flags, MAIN, 'keep', '--beat', '250', '--', ...node], {
    stdio: ['ignore', 'ignore', 'pipe'],
    env: { ...process.env, HANGS: hangs },
  })
  t.after(() => child.kill('SIGKILL'))
  let text = ''
  child.stderr?.on('data', chunk => {
    text += String(chunk)
  })
  return { child, socket: socketPath(stateDir), hangs, said: () => text }
}

function ended(child: ChildProcess): Promise<number | null> {
  return new Promise(resolve => child.once('exit', code => resolve(code)))
}

test('a node whose loop is blocked, and one that was killed, is started again; told to end it ends, and its keeper', {
  timeout: 60_000,
}, async t => {
  const { child, socket, hangs, said } = keep(t, '[relay]\ncontrol_listen = "127.0.0.1:0"\n')
  const pid = async (before = 0) =>
    waitFor(async () => {
      const status = await callAction(socket, 'status', {}, 500).catch(() => undefined)
      return status !== undefined && status.pid !== before ? status.pid : undefined
    }, `the node to be up\n${said()}`)
  const first = await pid()
  assert.notEqual(first, child.pid)
  await new Promise(resolve => setTimeout(resolve, 3_000))
  assert.equal(await pid(), first, 'one whose loop turns is left alone')
  writeFileSync(hangs, '')
  const second = await pid(first)
  assert.equal(existsSync(hangs), false)
  assert.match(said(), /keep the node: it hung and was ended/)
  process.kill(second, 'SIGKILL')
  await pid(second)
  assert.match(said(), /it ended with code 137\n {2}it is started again/)
  const end = ended(child)
  child.kill('SIGTERM')
  assert.equal(await end, 0)
  await assert.rejects(callAction(socket, 'status', {}), { code: 'DAEMON_NOT_RUNNING' })
})

test('a node that cannot start is not tried again: its keeper ends with its code', async t => {
  const { child, said } = keep(t, '[nonsense]\n')
  assert.equal(await ended(child), 78)
  assert.equal(said().match(/nonsense/g)?.length, 1, said())
})

test('a keeper that is killed takes its node with it', { timeout: 60_000 }, async t => {
  const { child, socket, said } = keep(t, '[relay]\ncontrol_listen = "127.0.0.1:0"\n')
  await waitFor(async () => callAction(socket, 'status', {}, 500).catch(() => undefined), `the node\n${said()}`)
  child.kill('SIGKILL')
  const isGone = () =>
    callAction(socket, 'status', {}, 500).then(
      () => undefined,
      () => true,
    )
  await waitFor(isGone, 'its end')
})

test('what is no node is not kept', async t => {
  const child = spawn(process.execPath, ['--no-warnings', MAIN, 'keep', '--', 'status'], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  assert.equal(await ended(child), 64)
})
