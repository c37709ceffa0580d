import assert from 'node:assert/strict'
import {
  appendFileSync,
  closeSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { defaultConfig } from './config.ts'
import { rotateLog } from './log-file.ts'

const NOW = Date.parse('2026-11-21T12:00:00Z')
const LIMITS = { ...defaultConfig().log, file_mib: 1, file_days: 7, files: 3 }
const line = (time: string, text = '') => `{"time":"${time}","event":"x${text}"}\n`

function folder(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-log-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return path.join(directory, 'daemon.log')
}

test('a short, young log is left alone, and so is one that is not there', t => {
  const file = folder(t)
  rotateLog(file, LIMITS, NOW)
  writeFileSync(file, line('2026-11-20T12:00:00Z'))
  rotateLog(file, LIMITS, NOW)
  assert.deepEqual(readdirSync(path.dirname(file)), ['daemon.log'])
})

test('a long one is set aside, and who has it open goes on writing', t => {
  const file = folder(t)
  const handle = openSync(file, 'a')
  writeSync(handle, line('2026-11-21T11:00:00Z', 'y'.repeat(2 ** 20)))
  rotateLog(file, LIMITS, NOW)
  writeSync(handle, line('2026-11-21T12:00:01Z'))
  closeSync(handle)
  assert.equal(readFileSync(file, 'utf8'), line('2026-11-21T12:00:01Z'))
  assert.match(readFileSync(`${file}.1`, 'utf8'), /yyy"\}\n$/)
})

test('an old one is set aside whatever its length, and no more are kept than wanted', t => {
  const file = folder(t)
  for (const day of ['01', '02', '03', '04']) {
    appendFileSync(file, line(`2026-11-${day}T12:00:00Z`))
    rotateLog(file, LIMITS, NOW)
  }
  assert.deepEqual(readdirSync(path.dirname(file)).toSorted(), ['daemon.log', 'daemon.log.1', 'daemon.log.2'])
  assert.equal(readFileSync(`${file}.1`, 'utf8'), line('2026-11-04T12:00:00Z'))
  assert.equal(readFileSync(`${file}.2`, 'utf8'), line('2026-11-03T12:00:00Z'))
})

test('with one file only, what was is forgotten', t => {
  const file = folder(t)
  writeFileSync(file, line('2026-11-01T12:00:00Z'))
  rotateLog(file, { ...LIMITS, files: 1 }, NOW)
  assert.deepEqual([readdirSync(path.dirname(file)), readFileSync(file, 'utf8')], [['daemon.log'], ''])
})
