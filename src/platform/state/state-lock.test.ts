import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { HopliteError } from '#api/errors.ts'
import { isStateLocked, lockState } from './state-lock.ts'

const MODULE = fileURLToPath(new URL('./state-lock.ts', import.meta.url))

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-lock-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

const isLocked = (error: unknown) => error instanceof HopliteError && error.code === 'STATE_LOCKED'

test('a state directory is locked once, and free again when the lock was given back', t => {
  const directory = temporary(t)
  const unlock = lockState(directory)
  assert.throws(() => lockState(directory), isLocked)
  assert.ok(isStateLocked(directory))
  unlock()
  unlock()
  assert.ok(!isStateLocked(directory))
  assert.deepEqual(readdirSync(directory), [])
  lockState(directory)()
})

test('while another process has the lock it is refused; when that was killed it is taken over', async t => {
  const directory = temporary(t)
  const program = `import { lockState } from ${JSON.stringify(MODULE)}
    lockState(${JSON.stringify(directory)}); process.stdout.write('locked'); setInterval(() => {}, 1000)`
  const args = ['--no-warnings', '--input-type=module', '-e', program]
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await new Promise(resolve => child.stdout.once('data', resolve))
  assert.throws(() => lockState(directory), new RegExp(`process ${child.pid} uses it`))
  const gone = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGKILL')
  await gone
  assert.ok(existsSync(path.join(directory, 'daemon.pid')))
  lockState(directory)()
  assert.deepEqual(readdirSync(directory), [])
})

test('a lock of a process id that another program has now is taken over', { skip: process.platform !== 'linux' }, t => {
  const directory = temporary(t)
  writeFileSync(path.join(directory, 'daemon.pid'), `${process.ppid} 1\n`)
  lockState(directory)()
})

test('a process that has died counts as dead before its parent has heard of it', {
  skip: process.platform !== 'linux',
}, async t => {
  const directory = temporary(t)
  // The program that takes the shell's place does not wait for the shell's child.
  const parent = spawn('/bin/sh', ['-c', 'sleep 0 & echo $!; exec sleep 60'], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => parent.kill('SIGKILL'))
  const pid = Number(await new Promise(resolve => parent.stdout.once('data', resolve)))
  const stat = () => readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? []
  while (stat()[0] !== 'Z') await new Promise(resolve => setImmediate(resolve))
  writeFileSync(path.join(directory, 'daemon.pid'), `${pid} ${stat()[19]}\n`)
  assert.ok(!isStateLocked(directory))
  lockState(directory)()
})

test('a lock file that makes no sense is taken over', t => {
  const directory = temporary(t)
  for (const content of ['', 'x', '0 0\n', '-1 5\n', `${process.pid} 7\n`, '\0'.repeat(10_000)]) {
    writeFileSync(path.join(directory, 'daemon.pid'), content)
    lockState(directory)()
    assert.deepEqual(readdirSync(directory), [], JSON.stringify(content.slice(0, 10)))
  }
})

test('giving back a lock leaves the one that another process has taken since', t => {
  const directory = temporary(t)
  const unlock = lockState(directory)
  const file = path.join(directory, 'daemon.pid')
  writeFileSync(file, '1 1\n')
  unlock()
  assert.equal(readFileSync(file, 'utf8'), '1 1\n')
})

test('a directory that cannot be written is told apart from a locked one', t => {
  const isUnreadable = (error: unknown) => error instanceof HopliteError && error.code === 'STATE_UNREADABLE'
  assert.throws(() => lockState(path.join(temporary(t), 'none')), isUnreadable)
})
