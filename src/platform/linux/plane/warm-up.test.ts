import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import { test } from 'node:test'
import { WarmUp } from './warm-up.ts'

const descriptors = () => readdirSync('/proc/self/fd').length

test('the packets of the warm-up pass every node both ways, and nothing is left open', t => {
  if (process.platform !== 'linux') return t.skip('needs Linux')
  const before = descriptors()
  const warmUp = new WarmUp()
  let steps = 0
  while (!warmUp.isDone && steps++ < 20_000) warmUp.step()
  assert.ok(warmUp.isDone)
  const { datagramsIn, framesOpened, dropForged, dropTunnel, dropNoFlow } = warmUp.counters.snapshot()
  // Two layers out and two back; the handshake that opens the relay's flow is not counted as much.
  assert.ok(framesOpened >= 4 * 2_000 && datagramsIn >= framesOpened, `${framesOpened} opened`)
  assert.deepEqual([dropForged, dropTunnel, dropNoFlow], [0, 0, 0])
  assert.equal(descriptors(), before)
})

test('a warm-up that is stopped half-way leaves nothing open and does no more', t => {
  if (process.platform !== 'linux') return t.skip('needs Linux')
  const before = descriptors()
  const warmUp = new WarmUp()
  warmUp.step()
  assert.equal(warmUp.isDone, false)
  warmUp.close()
  const { datagramsIn } = warmUp.counters.snapshot()
  warmUp.step()
  assert.equal(warmUp.counters.get('datagramsIn'), datagramsIn)
  assert.equal(descriptors(), before)
})
