// A socket that leads to one address: handed over by the paths' shell, used by either engine.

import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import type { Report } from '#forward/commands.ts'
import { waitFor } from '#lab/testnet.ts'
import { encodeStun, STUN_METHOD } from '#wire/stun.ts'
import { startEngineOf } from '../engine.ts'
import { copyDescriptor } from '../linux/plane/udp-socket.ts'
import { descriptorOf } from '../linux/socket-descriptor.ts'

const STAND_IN = { host: '100::7', port: 1 }

async function openAt(): Promise<dgram.Socket> {
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  return socket
}

const question = (id: number) =>
  encodeStun({
    class: 'request',
    method: STUN_METHOD.binding,
    transaction: new Uint8Array(12).fill(id),
    attributes: [],
  })

for (const kind of ['portable', 'linux'] as const) {
  test(`the ${kind} engine speaks by a socket that it was given to the one address that it leads to, and hears that one alone`, async t => {
    if (kind === 'linux' && process.platform !== 'linux') return t.skip('the linux engine needs Linux')
    const [theirs, stranger, own] = [await openAt(), await openAt(), await openAt()]
    t.after(() => [theirs, stranger].forEach(socket => void socket.close()))
    const reports: Report[] = []
    const engine = startEngineOf(kind, {
      ...{ host: '127.0.0.1', port: 0, maxStreamDatagram: 1_200, onFailure: assert.ifError },
      onReport: report => reports.push(report),
    })
    t.after(() => engine.close())
    await waitFor(async () => reports[0], 'the engine')

    const { port } = own.address()
    const fd = engine.takesSockets ? copyDescriptor(descriptorOf(own)) : undefined
    own.close()
    await once(own, 'close')
    const to = { host: '127.0.0.1', port: theirs.address().port }
    engine.send({ kind: 'openPunched', standIn: STAND_IN, to, port, ...(fd !== undefined && { fd }) })

    const heard = once(theirs, 'message')
    const bytes = question(1)
    engine.send({ kind: 'sendHandshake', via: { kind: 'socket', address: STAND_IN }, bytes })
    const [message, from] = (await heard) as [Buffer, dgram.RemoteInfo]
    assert.deepEqual(Uint8Array.from(message), bytes)
    assert.equal(from.port, port, 'the router knows that port')

    stranger.send(question(2), port, '127.0.0.1')
    await new Promise(resolve => setTimeout(resolve, 100))
    theirs.send(question(3), port, '127.0.0.1')
    const stun = await waitFor(async () => reports.find(report => report.kind === 'stun'), 'what came')
    assert.ok(stun.kind === 'stun')
    assert.deepEqual(stun.from, STAND_IN)
    assert.deepEqual(Uint8Array.from(stun.bytes), question(3), 'what others send is not taken')

    engine.send({ kind: 'closePunched', standIn: STAND_IN })
    const isFree = async () => {
      const again = dgram.createSocket('udp4')
      const bound = await new Promise<boolean>(resolve => {
        again.once('error', () => resolve(false))
        again.bind(port, '127.0.0.1', () => resolve(true))
      })
      if (bound) again.close()
      return bound || undefined
    }
    await waitFor(isFree, 'the port to be free again')
  })
}
