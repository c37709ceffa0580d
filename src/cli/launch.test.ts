import assert from 'node:assert/strict'
import { type ChildProcess, spawn } from 'node:child_process'
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'

const BIN = fileURLToPath(new URL('../../bin/', import.meta.url))
const isWindows = process.platform === 'win32' && 'Windows has no signals'

interface Ended {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

/** Runs `script` with this Node; `onOutput` is called once, with the first output. */
function run(script: string, args: string[], onOutput: (child: ChildProcess) => void = () => {}): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [...OLD_NODE.flag, script, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
    let stdout = ''
    let stderr = ''
    child.stdout.once('data', () => onOutput(child))
    child.stdout.on('data', chunk => (stdout += String(chunk)))
    child.stderr.on('data', chunk => (stderr += String(chunk)))
    child.on('error', reject)
    child.on('close', code => resolve({ code, stdout, stderr }))
  })
}

/** A module loaded first makes this Node say that it is an old one. */
const OLD_NODE = {
  flag: [] as string[],
  async pretend<T>(directory: string, during: () => Promise<T>): Promise<T> {
    const file = path.join(directory, 'old-node.cjs')
    writeFileSync(
      file,
      "Object.defineProperty(process, 'versions', { value: { ...process.versions, node: '18.1.0' } })\n",
    )
    this.flag = ['--require', file]
    try {
      return await during()
    } finally {
      this.flag = []
    }
  },
}

/** node_modules/hoplite/bin as an installation lays it out. */
function installation(t: TestContext): { directory: string; launcher: string } {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-launch-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const bin = path.join(directory, 'node_modules', 'hoplite', 'bin')
  cpSync(BIN, bin, { recursive: true })
  return { directory, launcher: path.join(bin, 'node.cjs') }
}

const launcher = path.join(BIN, 'node.cjs')

test('the launcher ends with the code of what it ran', async () => {
  assert.equal((await run(launcher, ['-e', 'process.exit(37)'])).code, 37)
})

test('what a signal ended gives 128 and its number', { skip: isWindows }, async () => {
  assert.equal((await run(launcher, ['-e', "process.kill(process.pid, 'SIGKILL')"])).code, 137)
})

test('SIGTERM, SIGHUP and, without a terminal, SIGINT are passed on, and the end is waited for', {
  skip: isWindows,
}, async () => {
  for (const signal of ['SIGTERM', 'SIGHUP', 'SIGINT'] as const) {
    const program = `process.on('${signal}', () => { console.log('closed'); process.exit(5) }); console.log('up'); setInterval(() => {}, 1e3)`
    const { code, stdout } = await run(launcher, ['-e', program], child => child.kill(signal))
    assert.deepEqual([code, stdout], [5, 'up\nclosed\n'], signal)
  }
})

test('on an old Node without the pinned one it says plainly what is missing and what to do', async t => {
  const { directory, launcher } = installation(t)
  const { code, stderr } = await OLD_NODE.pretend(directory, () => run(launcher, ['-e', '0']))
  assert.equal(code, 78)
  assert.match(stderr, /^hoplite needs Node 26 or newer\. This is Node 18\.1\.0, /)
  assert.match(stderr, /npm ci/)
})

test('on an old Node the pinned one is found where npm hoists it to', { skip: isWindows }, async t => {
  const { directory, launcher } = installation(t)
  const bin = path.join(directory, 'node_modules', 'node', 'bin')
  mkdirSync(bin, { recursive: true })
  writeFileSync(path.join(bin, 'node'), '#!/bin/sh\necho "pinned $*"\n', { mode: 0o755 })
  const { code, stdout } = await OLD_NODE.pretend(directory, () => run(launcher, ['some.ts', '--flag']))
  assert.equal(code, 0)
  assert.match(stdout, /^pinned --no-warnings .*some\.ts --flag\n$/)
})

test('a pinned Node that cannot be started is named', { skip: isWindows }, async t => {
  const { directory, launcher } = installation(t)
  const node = path.join(directory, 'node_modules', 'node', 'bin', 'node')
  mkdirSync(path.dirname(node), { recursive: true })
  writeFileSync(node, 'not a program', { mode: 0o644 })
  const { code, stderr } = await OLD_NODE.pretend(directory, () => run(launcher, ['-e', '0']))
  assert.equal(code, 78)
  assert.match(stderr, /cannot start Node at .*node_modules\/node\/bin\/node: .*EACCES/)
})
