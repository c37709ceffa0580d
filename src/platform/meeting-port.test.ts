import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { MEETING_HEADER, openMeetingPort, otherEnd } from './meeting-port.ts'

const token = new Uint8Array(32).fill(1)
const address = { host: '127.0.0.1', port: 9 }

test('each side makes the other end of the token, and no other token makes it', () => {
  const meeting = { address, relay: address, token }
  const ends = [true, false].map(isControlling => otherEnd({ ...meeting, isControlling }).host)
  assert.deepEqual(ends, ['100::de4e:c009:d01:14df', '100::de4e:c009:d01:14de'])
  const another = otherEnd({ ...meeting, token: new Uint8Array(32), isControlling: true })
  assert.ok(!ends.includes(another.host))
})

test('datagrams pass behind their header, and those of others are not heard', async t => {
  const plane = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  const stranger = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  t.after(() => [plane, stranger].forEach(socket => void socket.close()))
  await Promise.all([once(plane, 'listening'), once(stranger, 'listening')])
  const heard: string[] = []
  let whenHeard: () => void = () => undefined
  const meeting = {
    address: { host: '127.0.0.1', port: plane.address().port },
    relay: address,
    token,
    isControlling: true,
  }
  const port = openMeetingPort(meeting, bytes => {
    heard.push(Buffer.from(bytes).toString('latin1'))
    whenHeard()
  })
  t.after(() => port.close())
  port.send(Buffer.from('out'))
  const [out, from] = (await once(plane, 'message')) as [Buffer, dgram.RemoteInfo]
  assert.equal(Buffer.compare(out, Buffer.concat([MEETING_HEADER, Buffer.from('out')])), 0)
  const sendFrom = (socket: dgram.Socket, text: string) =>
    new Promise<void>(resolve => {
      socket.send(Buffer.concat([MEETING_HEADER, Buffer.from(text)]), from.port, from.address, () => resolve())
    })
  const hearing = new Promise<void>(resolve => (whenHeard = resolve))
  await sendFrom(stranger, 'not ours')
  await sendFrom(plane, '')
  await sendFrom(plane, 'in')
  await hearing
  assert.deepEqual(heard, ['in'])
})
