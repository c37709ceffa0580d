import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import {
  appendFileSync,
  chmodSync,
  existsSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { missingForNamespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { type Change, Changes } from './changes.ts'

function directory(t: TestContext): string {
  const made = mkdtempSync(path.join(tmpdir(), 'hoplite-changes-'))
  t.after(() => rmSync(made, { recursive: true, force: true }))
  return made
}

/** A change that makes a directory, and fails when it is there. */
function makes(id: string, dir: string, more: Partial<Change> = {}): Change {
  const file = path.join(dir, id)
  return { id, step: { kind: 'commands', do: [{ run: ['mkdir', file] }], undo: [{ run: ['rmdir', file] }] }, ...more }
}

function writes(id: string, file: string, content: string): Change {
  return { id, step: { kind: 'file', file, content } }
}

const journal = (state: string) => path.join(state, 'network-changes.jsonl')

function skipElsewhere(t: TestContext): boolean {
  return skipUnless(t, process.platform === 'linux', 'the journal is that of the Linux network')
}

test('a change is on the disk, with its undo, before it is done', async t => {
  if (skipElsewhere(t)) return
  const state = directory(t)
  const seen = path.join(state, 'seen')
  const copy = { run: ['cp', journal(state), seen] } as const
  await Changes.open(state).make({ id: 'a', step: { kind: 'commands', do: [copy], undo: [{ run: ['true'] }] } })
  assert.deepEqual(JSON.parse(readFileSync(seen, 'utf8')), {
    id: 'a',
    undo: { kind: 'commands', undo: [{ run: ['true'] }] },
  })
})

test('what another process left is undone, newest first, and the journal goes', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const changes = Changes.open(state)
  await changes.make(makes('outer', work))
  await changes.make(makes('outer/inner', work))
  const next = Changes.open(state)
  assert.deepEqual(next.pending(), ['outer', 'outer/inner'])
  await next.undoAll()
  assert.deepEqual([readdirSync(work), existsSync(journal(state))], [[], false])
})

test('undoing twice, or what is gone already, is no error', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const changes = Changes.open(state)
  await changes.make(makes('a', work))
  rmSync(path.join(work, 'a'), { recursive: true })
  await changes.undoAll()
  await changes.undoAll()
  assert.deepEqual(changes.pending(), [])
})

test('what cannot be undone stays recorded, and the rest is undone', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const changes = Changes.open(state)
  for (const id of ['a', 'b', 'c']) await changes.make(makes(id, work))
  writeFileSync(path.join(work, 'b', 'full'), '')
  await assert.rejects(changes.undoAll(), { code: 'CHANGE_FAILED', message: /undo b: run rmdir .* not empty/ })
  assert.deepEqual(Changes.open(state).pending(), ['b'])
  assert.deepEqual(readdirSync(work), ['b'])
})

test('a line that was torn by a crash is a change that was not begun', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  await Changes.open(state).make(makes('a', work))
  appendFileSync(journal(state), '{"id":"b","undo":{"kind":"comm')
  const next = Changes.open(state)
  assert.deepEqual(next.pending(), ['a'])
  await next.make(makes('c', work))
  assert.deepEqual(Changes.open(state).pending(), ['a', 'c'])
})

test('a journal with a line that makes no sense is kept aside, and its other lines count', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  await Changes.open(state).make(makes('a', work))
  for (const line of ['null', '{}', '{"id":"x","undo":{"kind":"other"}}', 'x']) {
    appendFileSync(journal(state), `${line}\n`)
  }
  assert.deepEqual(Changes.open(state).pending(), ['a'])
  assert.ok(existsSync(`${journal(state)}.damaged-1`))
})

test('a plan takes the place of an earlier one: what replaces comes first, then the old is undone, then the rest', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const log = path.join(work, 'log')
  const logs = (id: string, run: string, more: Partial<Change> = {}): Change => {
    const line = (what: string) => ({ run: ['tee', '-a', log], input: `${what} ${run} ${id}\n` }) as const
    return { id, step: { kind: 'commands', do: [line('do')], undo: [line('undo')] }, ...more }
  }
  const plan = (run: string) => [logs('wall', run, { replaces: true }), logs('a', run), logs('b', run)]
  await Changes.open(state).makeAll(plan('1'))
  const next = Changes.open(state)
  await next.makeAll(plan('2'))
  await next.undoAll()
  assert.deepEqual(readFileSync(log, 'utf8').trim().split('\n'), [
    ...['do 1 wall', 'do 1 a', 'do 1 b'],
    ...['do 2 wall', 'undo 1 b', 'undo 1 a', 'do 2 a', 'do 2 b'],
    ...['undo 2 b', 'undo 2 a', 'undo 1 wall'],
  ])
})

test('when a change of a plan fails, what replaces stays and the rest is undone', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const changes = Changes.open(state)
  const plan = [makes('wall', work, { replaces: true }), makes('a', work), makes('no/such', work)]
  await assert.rejects(changes.makeAll(plan), { code: 'CHANGE_FAILED' })
  assert.deepEqual([readdirSync(work), changes.pending()], [['wall'], ['wall']])
})

test('a program that is missing is named with its package', async t => {
  if (skipElsewhere(t)) return
  const step = { kind: 'commands', do: [{ run: ['hoplite-no-such'] }], undo: [{ run: ['true'] }] } as const
  await assert.rejects(Changes.open(directory(t)).make({ id: 'a', step }), { code: 'PROGRAM_MISSING' })
})

test('a file is restored to its content and mode, a link to a link, and nothing to nothing', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const [file, link, absent] = ['file', 'link', 'absent'].map(name => path.join(work, name)) as [string, string, string]
  writeFileSync(file, Buffer.from([0, 255, 10]))
  chmodSync(file, 0o640)
  symlinkSync('file', link)
  const changes = Changes.open(state)
  for (const which of [file, link, absent]) await changes.make(writes(which, which, 'nameserver 10.0.0.1\n'))
  assert.ok(lstatSync(link).isFile())
  await Changes.open(state).undoAll()
  assert.deepEqual([...readFileSync(file)], [0, 255, 10])
  assert.equal(lstatSync(file).mode & 0o777, 0o640)
  assert.equal(readlinkSync(link), 'file')
  assert.deepEqual(readdirSync(work), ['file', 'link'])
})

test('a file that somebody else has written since is theirs', async t => {
  if (skipElsewhere(t)) return
  const [state, work] = [directory(t), directory(t)]
  const file = path.join(work, 'file')
  const changes = Changes.open(state)
  await changes.make(writes('a', file, 'ours'))
  writeFileSync(file, 'theirs')
  await changes.undoAll()
  assert.equal(readFileSync(file, 'utf8'), 'theirs')
})

/** Covers FILE with ours, has `between` done, undoes it, and says what is there meanwhile and afterwards. */
const COVERS = `
  import { existsSync, readFileSync, renameSync, writeFileSync } from 'node:fs'
  import { Changes } from ${JSON.stringify(new URL('./changes.ts', import.meta.url))}
  const [work, file, between] = process.argv.slice(1)
  const attempt = act => { try { act() } catch (error) { return error.code } }
  const source = work + '/ours'
  writeFileSync(work + '/theirs', 'theirs')
  await Changes.open(work).make({ id: 'a', step: { kind: 'cover', file, source, content: 'ours' } })
  const during = [readFileSync(file, 'utf8'), attempt(() => writeFileSync(file, 'x')), attempt(() => renameSync(work + '/theirs', work + '/target'))]
  if (between === 'replaced') { renameSync(work + '/theirs', file) }
  await Changes.open(work).undoAll()
  const isMounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(work)
  const under = readFileSync(work + '/target', 'utf8')
  console.log(JSON.stringify({ during, after: readFileSync(file, 'utf8'), under, isMounted, isLeft: existsSync(source) }))
`

for (const [name, between, after] of [
  ['a file that a link leads to is covered and uncovered', '', 'before'],
  ['so is one whose link somebody else has replaced meanwhile, and theirs is left alone', 'replaced', 'theirs'],
] as const) {
  test(name, t => {
    const missing = missingForNamespaces('unshare', 'mount')
    if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
    const work = directory(t)
    const [target, link] = [path.join(work, 'target'), path.join(work, 'link')]
    writeFileSync(target, 'before')
    symlinkSync('target', link)
    const words = ['--no-warnings', '--input-type=module', '--eval', COVERS, work, link, between]
    const { stdout, stderr } = spawnSync('unshare', ['--mount', process.execPath, ...words], { encoding: 'utf8' })
    const expected = { during: ['ours', 'EROFS', 'EBUSY'], after, under: 'before', isMounted: false, isLeft: false }
    assert.deepEqual(JSON.parse(stdout || '{}'), expected, stderr)
  })
}
