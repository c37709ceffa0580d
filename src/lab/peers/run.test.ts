import assert from 'node:assert/strict'
import test from 'node:test'
import { missingForNamespaces } from '../netns.ts'
import { skipUnless } from '../skip.ts'
import { firstByte } from './measurements/first-byte.ts'
import { roundTrip } from './measurements/round-trip.ts'
import { measure } from './run.ts'
import { bare } from './subjects/bare.ts'

// Not the measurements that fill the machine for long: other tests run beside this one.
test('the bare path is measured from end to end', async t => {
  const missing = missingForNamespaces('iperf3', 'sysctl')
  const tool = missing === 'root' || missing === 'Linux' ? {} : { tool: missing ?? '' }
  if (skipUnless(t, missing === undefined, `needs ${missing}`, tool)) return
  const { outcome } = await measure(bare, { seconds: 1, measurements: [firstByte, roundTrip] })
  assert.ok(outcome.kind === 'measured', JSON.stringify(outcome))
  assert.deepEqual(outcome.failures, [])
  assert.deepEqual(outcome.processes, [])
  const { firstByteMs, idleMedianMs, idleP99Ms, loadedMedianMs } = outcome.figures
  for (const figure of [firstByteMs, idleMedianMs, idleP99Ms, loadedMedianMs])
    assert.ok(figure !== undefined && figure > 0 && figure < 5_000, JSON.stringify(outcome.figures))
})

test('a subject that is missing here is named with the reason, and nothing is started', async () => {
  const start = () => assert.fail('started')
  const row = await measure({ ...bare, missing: () => 'no such program', start }, { seconds: 1 })
  assert.deepEqual(row.outcome, { kind: 'missing', reason: 'no such program' })
})
