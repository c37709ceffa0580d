import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import {
  assertPrivate,
  mayReplace,
  prepareStateDirectory,
  readStateFile,
  setAside,
  writeOwnersFile,
  writeStateFile,
} from './state-file.ts'

const isWindows = process.platform === 'win32' && 'Windows has no file modes'

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-state-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

function mode(file: string): number {
  return statSync(file).mode & 0o777
}

function isUnreadable(message: RegExp): (error: unknown) => boolean {
  return error =>
    error instanceof HopliteError &&
    error.code === 'STATE_UNREADABLE' &&
    message.test(error.message) &&
    error.advice !== ''
}

test('a state directory is made with its parents, for its owner alone', { skip: isWindows }, t => {
  const directory = path.join(temporary(t), 'a', 'b')
  prepareStateDirectory(directory)
  assert.equal(mode(directory), 0o700)
  prepareStateDirectory(directory)
})

test('an empty directory is made private; one with things in it and open to others is refused', {
  skip: isWindows,
}, t => {
  const directory = path.join(temporary(t), 'open')
  mkdirSync(directory)
  chmodSync(directory, 0o755)
  prepareStateDirectory(directory)
  assert.equal(mode(directory), 0o700)
  writeFileSync(path.join(directory, 'letter'), '')
  chmodSync(directory, 0o750)
  assert.throws(() => prepareStateDirectory(directory), isUnreadable(/others may look into it \(mode 750\)/))
  assert.equal(mode(directory), 0o750)
})

test('a state directory that is a file is refused', t => {
  const file = path.join(temporary(t), 'file')
  writeFileSync(file, '')
  assert.throws(() => prepareStateDirectory(file), isUnreadable(/EEXIST|ENOTDIR/))
})

test('a file is written whole, for its owner alone, and leaves nothing else behind', t => {
  const directory = temporary(t)
  const file = path.join(directory, 'state')
  writeStateFile(file, 'one')
  writeStateFile(file, Buffer.alloc(100_000, 7))
  assert.deepEqual(Buffer.from(readStateFile(file, 100_000) ?? []), Buffer.alloc(100_000, 7))
  assert.deepEqual(readdirSync(directory), ['state'])
  if (process.platform !== 'win32') assert.equal(mode(file), 0o600)
})

test('a temporary file that a crash left behind does not stop a write', t => {
  const file = path.join(temporary(t), 'state')
  writeFileSync(`${file}.new-${process.pid}`, 'half', { mode: 0o644 })
  writeStateFile(file, 'whole')
  assert.equal(readFileSync(file, 'utf8'), 'whole')
  if (process.platform !== 'win32') assert.equal(mode(file), 0o600)
})

test('a write that fails says so and keeps the old file', t => {
  const directory = temporary(t)
  assert.throws(() => writeStateFile(path.join(directory, 'none', 'state'), 'x'), isUnreadable(/^write .*ENOENT/))
  const taken = path.join(directory, 'taken')
  mkdirSync(taken)
  writeFileSync(path.join(taken, 'old'), 'old')
  assert.throws(() => writeStateFile(taken, 'x'), isUnreadable(/^write /))
  assert.deepEqual(readdirSync(directory), ['taken'])
})

test('a file that is missing is undefined; one that is too long or no file is refused', t => {
  const directory = temporary(t)
  const file = path.join(directory, 'state')
  assert.equal(readStateFile(file, 10), undefined)
  writeFileSync(file, '12345678901')
  assert.throws(() => readStateFile(file, 10), isUnreadable(/it has 11 bytes, at most 10 are read/))
  assert.throws(() => readStateFile(directory, 10), isUnreadable(/it is not a file/))
})

test('a secret that others may read is refused, with the command that mends it', { skip: isWindows }, t => {
  const file = path.join(temporary(t), 'secret')
  writeStateFile(file, 'x')
  assertPrivate(file)
  chmodSync(file, 0o640)
  const isRight = (error: HopliteError) => /mode 640/.test(error.message) && error.advice === `run: chmod 600 ${file}`
  assert.throws(() => assertPrivate(file), isRight)
})

test('damaged files are set aside one beside the other, and no more than a hundred', t => {
  const file = path.join(temporary(t), 'state')
  for (let n = 1; n <= 100; n++) {
    writeFileSync(file, String(n))
    assert.equal(setAside(file), `${file}.damaged-${n}`)
  }
  assert.equal(readFileSync(`${file}.damaged-1`, 'utf8'), '1')
  writeFileSync(file, 'one too many')
  assert.throws(() => setAside(file), isUnreadable(/100/))
  assert.ok(existsSync(file))
})

test('a file of somebody stays his, and as readable as it was', { skip: isWindows }, t => {
  const file = path.join(temporary(t), 'hoplite.toml')
  writeOwnersFile(file, 'first')
  assert.equal(mode(file), 0o600)
  chmodSync(file, 0o644)
  if (process.getuid?.() === 0) chownSync(file, 61_000, 61_001)
  const { uid, gid } = statSync(file)
  writeOwnersFile(file, 'second')
  assert.equal(readFileSync(file, 'utf8'), 'second')
  assert.deepEqual([mode(file), statSync(file).uid, statSync(file).gid], [0o644, uid, gid])
})

test('whether a file may be written is known before it is tried', { skip: isWindows }, t => {
  const directory = temporary(t)
  assert.equal(mayReplace(path.join(directory, 'not', 'yet', 'there.toml')), true)
  const ask = `import { mayReplace } from ${JSON.stringify(new URL('./state-file.ts', import.meta.url).href)}
    process.stdout.write(String(mayReplace(process.argv[1])))`
  const flags = ['--no-warnings', '--input-type=module', '--permission', '--allow-fs-read=*']
  const asked = (file: string) =>
    spawnSync(process.execPath, [...flags, `--allow-fs-write=${directory}/mine`, '-e', ask, file]).stdout.toString()
  mkdirSync(path.join(directory, 'mine'))
  assert.equal(asked(path.join(directory, 'mine', 'a.toml')), 'true')
  assert.equal(asked(path.join(directory, 'a.toml')), 'false')
  if (process.getuid?.() === 0) return
  chmodSync(directory, 0o500)
  assert.equal(mayReplace(path.join(directory, 'a.toml')), false)
  chmodSync(directory, 0o700)
})
