import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type LimitReadings, LimitWatch } from './limit-watch.ts'

const MIB = 2 ** 20
const WELL: LimitReadings = {
  files: { used: 60, limit: 1_024, isFull: false },
  heap: { used: 20 * MIB, limit: 2_000 * MIB },
  memory: { used: 100 * MIB, limit: 512 * MIB },
  diskFree: 900 * MIB,
  counters: { datagramsIn: 7, dropForged: 3 },
}

const names = (watch: LimitWatch, readings: Partial<LimitReadings>, now: number) =>
  watch.look({ ...WELL, ...readings }, now).map(({ name }) => name)

test('a node that has room for everything has reached nothing, whatever else it counts', () => {
  const watch = new LimitWatch()
  watch.look(WELL, 0)
  assert.deepEqual(watch.look(WELL, 5_000), [])
  assert.deepEqual(new LimitWatch().look({ heap: WELL.heap, counters: {} }, 0), [], 'where the system tells nothing')
})

test('what a process may have is told with how much that is, and what to do', () => {
  const told = new LimitWatch().look(
    {
      files: { used: 900, limit: 1_024, isFull: true },
      heap: { used: 1_900 * MIB, limit: 2_000 * MIB },
      memory: { used: 500 * MIB, limit: 512 * MIB },
      diskFree: MIB / 2,
      counters: {},
    },
    0,
  )
  const said = told.map(({ name, problem, advice }) => `${name}: ${problem} → ${advice}`)
  assert.match(said[0] ?? '', /^open files: 900 of the 1024 files .* → raise it: ulimit -n/)
  assert.match(said[1] ?? '', /^memory: .* 500 of the 512 MiB .* → .*MemoryMax=/)
  assert.match(said[2] ?? '', /^heap: .* 1900 of the 2000 MiB .* → .*max_sessions/)
  assert.match(said[3] ?? '', /^disk: 0\.5 MiB are left .* → make room/)
})

test('what is refused for want of room is told with its number for five minutes after the last time', () => {
  const watch = new LimitWatch()
  const counters = (dropSessionLimit: number) => ({ counters: { dropSessionLimit } })
  const [told] = watch.look({ ...WELL, ...counters(3) }, 300_000)
  assert.equal(told?.problem, '3 clients that were turned away, as max_sessions are here')
  assert.match(watch.look({ ...WELL, ...counters(5) }, 400_000)[0]?.problem ?? '', /^5 clients/)
  assert.deepEqual(names(watch, counters(5), 699_999), ['sessions'])
  assert.deepEqual(names(watch, counters(5), 700_000), [])
  assert.deepEqual(names(watch, counters(0), 700_001), [], 'a data plane that was started again counts from nothing')
  assert.deepEqual(names(watch, counters(1), 700_002), ['sessions'])
})

test('what comes and goes is told once in a minute, and one limit has one line', () => {
  const watch = new LimitWatch()
  const full = { files: { used: 900, limit: 1_024, isFull: true }, counters: { refusedForFiles: 3 } }
  watch.look(WELL, 0)
  assert.deepEqual(names(watch, full, 1_000), ['open files'])
  assert.deepEqual(names(watch, { counters: full.counters }, 30_000), ['open files'])
  assert.match(watch.look({ ...WELL, counters: full.counters }, 30_000)[0]?.problem ?? '', /^900 of the 1024/)
  assert.match(watch.look({ ...WELL, counters: full.counters }, 61_001)[0]?.problem ?? '', /^3 flows and streams/)
})
