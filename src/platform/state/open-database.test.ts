import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import test, { type TestContext } from 'node:test'
import { openDatabase } from './open-database.ts'

const ONE = 'CREATE TABLE IF NOT EXISTS a (x INTEGER)'
const TWO = 'ALTER TABLE a ADD COLUMN y INTEGER DEFAULT 7'

function place(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-database-'))
  t.after(() => rmSync(directory, { recursive: true, maxRetries: 3 }))
  return path.join(directory, 'some.db')
}

function fill(file: string, rows: number): void {
  const database = openDatabase(file, [ONE])
  for (let x = 0; x < rows; x++) database.prepare('INSERT INTO a VALUES (?)').run(x)
  database.close()
}

test('it is written ahead, and what it lacks is made once', t => {
  const file = place(t)
  fill(file, 3)
  const database = openDatabase(file, [ONE, TWO])
  assert.deepEqual(
    database.prepare('PRAGMA journal_mode').get(),
    Object.assign(Object.create(null), { journal_mode: 'wal' }),
  )
  assert.equal(database.prepare('SELECT sum(y) AS sum FROM a').get()?.['sum'], 21)
  database.close()
  openDatabase(file, [ONE, TWO]).close()
})

test('tables from before there were versions are taken over', t => {
  const file = place(t)
  const before = new DatabaseSync(file)
  before.exec('CREATE TABLE a (x INTEGER); INSERT INTO a VALUES (5)')
  before.close()
  const database = openDatabase(file, [ONE, TWO])
  assert.deepEqual({ ...database.prepare('SELECT x, y FROM a').get() }, { x: 5, y: 7 })
  database.close()
})

test('what a newer program wrote is refused, and not a byte of it is changed', t => {
  const file = place(t)
  openDatabase(file, [ONE, TWO]).close()
  const before = readFileSync(file)
  assert.throws(() => openDatabase(file, [ONE]), { code: 'STATE_UNREADABLE', message: /newer version .* \(2, and 1 / })
  assert.deepEqual(readFileSync(file), before)
  assert.deepEqual(readdirSync(path.dirname(file)), ['some.db'])
})

test('a step that fails leaves the version before it', t => {
  const file = place(t)
  fill(file, 2)
  assert.throws(() => openDatabase(file, [ONE, TWO, 'no such words']), { code: 'STATE_UNREADABLE' })
  const database = openDatabase(file, [ONE])
  assert.deepEqual({ ...database.prepare('SELECT * FROM a').get() }, { x: 0 })
  database.close()
})

test('a file that is damaged is set aside and begun anew', t => {
  for (const damage of [
    () => Buffer.from('this was a database once'),
    (bytes: Buffer) => bytes.fill(0xa5, 4_096, 8_192),
    (bytes: Buffer) => bytes.subarray(0, 4_096 + 100),
  ]) {
    const file = place(t)
    fill(file, 2_000)
    const damaged = Buffer.from(damage(readFileSync(file)))
    writeFileSync(file, damaged)
    const database = openDatabase(file, [ONE])
    assert.equal(database.prepare('SELECT count(*) AS count FROM a').get()?.['count'], 0)
    database.close()
    assert.deepEqual(readFileSync(`${file}.damaged-1`), damaged)
  }
})

test('a place that is none is told', t => {
  const file = place(t)
  writeFileSync(file, '')
  assert.throws(() => openDatabase(path.join(file, 'x.db'), [ONE]), { code: 'STATE_UNREADABLE' })
})
