import assert from 'node:assert/strict'
import test from 'node:test'
import { skipUnless } from '../skip.ts'
import { cpuSecondsInStat, peakMemoryInStatus, usageOf } from './process-usage.ts'

test('CPU time is read after the name, whatever that has in it', () => {
  const after = 'S 1 4242 4242 0 -1 4194560 900 0 0 0 150 50 0 0 20 0 7 0 1000 2000000 300'
  assert.equal(cpuSecondsInStat(`4242 (node) ${after}`), 2)
  assert.equal(cpuSecondsInStat(`4242 (a) b (c d) ${after}`), 2)
})

test('peak memory is VmHWM in bytes', () => {
  assert.equal(peakMemoryInStatus('Name:\tnode\nVmPeak:\t  999 kB\nVmHWM:\t   12 kB\nVmRSS:\t    8 kB\n'), 12_288)
  assert.equal(peakMemoryInStatus('Name:\tkthreadd\n'), 0)
})

test('the usage of this process is found, and a process that is gone is left out', t => {
  if (skipUnless(t, process.platform === 'linux', 'needs Linux')) return
  const [own, ...others] = usageOf([
    { name: 'own', pid: process.pid },
    { name: 'gone', pid: 2 ** 22 + 1 },
  ])
  assert.deepEqual(others, [])
  assert.equal(own?.name, 'own')
  assert.ok(own.peakMemoryBytes > 2 ** 20 && own.cpuSeconds >= 0)
})
