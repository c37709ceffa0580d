import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import type { WgQuickHook } from '#wire/wg-quick.ts'
import { runHooks } from './hooks.ts'

const POSIX = { skip: process.platform === 'win32' }

function file(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-hooks-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return path.join(directory, 'said')
}

test('the commands of a moment are run in their order, and those of other moments are not', POSIX, async t => {
  const said = file(t)
  const hooks: WgQuickHook[] = [
    { when: 'PostUp', command: `sleep 0.05; echo one %i >> ${said}` },
    { when: 'PostDown', command: `echo never >> ${said}` },
    { when: 'PostUp', command: `echo two %i-%i >> ${said}` },
  ]
  await runHooks(hooks, 'PreUp', 'wg0')
  assert.ok(!existsSync(said))
  await runHooks(hooks, 'PostUp', 'wg0')
  assert.equal(readFileSync(said, 'utf8'), 'one wg0\ntwo wg0-wg0\n')
})

test('one that fails is told, without a word of it, and the next is run', POSIX, async t => {
  const said = file(t)
  const hooks: WgQuickHook[] = [
    { when: 'PreDown', command: 'exit 3 # hunter2' },
    { when: 'PreDown', command: 'no-such-program-hunter2' },
    { when: 'PreDown', command: 'kill -9 $$ # hunter2' },
    { when: 'PreDown', command: `echo done > ${said}` },
  ]
  const failures = await runHooks(hooks, 'PreDown', 'wg0')
  assert.equal(readFileSync(said, 'utf8'), 'done\n')
  assert.deepEqual(failures, ['3', '127', 'SIGKILL'])
})

test('one that hangs is ended with what it started, even if it would rather not', POSIX, async t => {
  const said = file(t)
  const command = `trap '' TERM; sleep 60 & echo $! > ${said}; wait; sleep 60`
  assert.deepEqual(await runHooks([{ when: 'PostUp', command }], 'PostUp', 'wg0', 300), ['SIGKILL'])
  const pid = Number(readFileSync(said, 'utf8'))
  while (isAlive(pid)) await new Promise(resolve => setImmediate(resolve))
})

/** Whether a process still runs; one that nobody has waited for does not. */
function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return process.platform !== 'linux' || !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'))
  } catch {
    return false
  }
}
