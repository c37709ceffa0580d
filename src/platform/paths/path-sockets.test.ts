import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { waitFor } from '#lab/testnet.ts'
import { copyDescriptor, nameOf, openUdpSocket } from '../linux/plane/udp-socket.ts'
import { descriptorOf } from '../linux/socket-descriptor.ts'
import { DgramSockets } from './path-sockets.ts'

test('where no other sockets are let out, those that are given are used, and may be handed on', async t => {
  if (process.platform !== 'linux') return t.skip('descriptors are of Linux')
  const fd = openUdpSocket({ bind: { host: '127.0.0.1', port: 0 }, isBusy: false })
  assert.ok(typeof fd === 'number')
  const { port } = nameOf(fd)
  const heard: string[] = []
  const asked: number[] = []
  await using sockets = new DgramSockets(bytes => heard.push(Buffer.from(bytes).toString()), {
    openSocket: async family => {
      asked.push(family)
      return fd
    },
    copySocket: socket => copyDescriptor(descriptorOf(socket)),
  })
  assert.equal(await sockets.open(1, 4, 0), port, 'the one that was given')
  assert.deepEqual(asked, [4])
  const other = dgram.createSocket('udp4')
  other.send('hello', port, '127.0.0.1')
  await once(other, 'listening')
  await waitFor(async () => heard[0], 'what was sent', 5_000)
  other.close()
  assert.deepEqual(heard, ['hello'])
  const handed = sockets.handOver(1)
  assert.equal(handed?.port, port)
  const again = dgram.createSocket('udp4').bind({ fd: handed?.fd ?? -1 })
  assert.equal(again.address().port, port, 'it is the same, still bound')
  again.close()
  assert.equal(sockets.handOver(1), undefined)
})
