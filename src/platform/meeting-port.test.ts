import assert from 'node:assert/strict'
import { test } from 'node:test'
import { otherEnd } from './meeting-port.ts'

const token = new Uint8Array(32).fill(1)
const address = { host: '127.0.0.1', port: 9 }

test('each side makes the other end of the token, and no other token makes it', () => {
  const meeting = { address, relay: address, token }
  const ends = [true, false].map(isControlling => otherEnd({ ...meeting, isControlling }).host)
  assert.deepEqual(ends, ['100::de4e:c009:d01:14df', '100::de4e:c009:d01:14de'])
  const another = otherEnd({ ...meeting, token: new Uint8Array(32), isControlling: true })
  assert.ok(!ends.includes(another.host))
})
