import assert from 'node:assert/strict'
import { createSocket } from 'node:dgram'
import { readlinkSync } from 'node:fs'
import test from 'node:test'
import { descriptorOf } from './socket-descriptor.ts'

const skip = process.platform === 'linux' ? false : 'Linux only'

test("the descriptor of Node's socket is found, so that it can be handed over", { skip }, async t => {
  const socket = createSocket('udp4')
  await new Promise<void>(resolve => socket.bind(0, '127.0.0.1', resolve))
  t.after(() => socket.close())
  assert.match(readlinkSync(`/proc/self/fd/${descriptorOf(socket)}`), /^socket:/)
})
