import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import test from 'node:test'
import { skipUnless } from '#lab/skip.ts'
import { parseUdpQueues, readUdpQueues } from './udp-queues.ts'

const TABLE = `   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
  12: 0100007F:CA6B 00000000:0000 07 00000010:00000A00 00:00000000 00000000     0        0 5001 2 0000000000000000 3
  13: 0100007F:CA6B 00000000:0000 07 00000000:00000100 00:00000000 00000000     0        0 5002 2 0000000000000000 4
  14: 0100007F:0035 00000000:0000 07 00000000:00000300 00:00000000 00000000     0        0 5003 2 0000000000000000 9
  15: 00000000000000000000000001000000:CA6B 00000000000000000000000000000000:0000 07 00000000:00000001 00:00000000 0 0 0 1 2 0 1
`

test('the queues of all sockets of a port are added up, and no others', () => {
  assert.deepEqual(parseUdpQueues(TABLE, 0xca6b), { receiveBytes: 0xb01, transmitBytes: 0x10, drops: 8 })
  assert.deepEqual(parseUdpQueues(TABLE, 1), { receiveBytes: 0, transmitBytes: 0, drops: 0 })
  assert.deepEqual(parseUdpQueues('garbage\n:0001 :0001\n', 1), { receiveBytes: 0, transmitBytes: 0, drops: 0 })
})

test('the table of this machine has a socket that is open', async t => {
  if (skipUnless(t, process.platform === 'linux', 'only Linux has /proc/net/udp')) return
  const socket = createSocket('udp4')
  t.after(() => void socket.close())
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  assert.deepEqual(readUdpQueues(socket.address().port), { receiveBytes: 0, transmitBytes: 0, drops: 0 })
})
