// The path machine on real sockets, over loopback: offers as bytes, packets both ways, a socket that somebody else reads.

import assert from 'node:assert/strict'
import dgram from 'node:dgram'
import { once } from 'node:events'
import { test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import type { Inbound } from '#path/endpoint.ts'
import { isStun } from '#wire/stun.ts'
import { PathShell } from './path-shell.ts'

const PEER = 1
const PACKET = Buffer.from([4, 0, 0, 0, 9, 9, 9, 9])

interface Side {
  readonly shell: PathShell
  readonly packets: Inbound[]
  offer: Uint8Array | undefined
  other: Side | undefined
  path: string | undefined
}

/** A side whose offers go straight to the other. */
function side(name: string): Side {
  const packets: Inbound[] = []
  const own: Side = {
    shell: new PathShell({
      random: systemRandom,
      stunServers: [],
      turnServers: [],
      hosts: ['127.0.0.1'],
      onOffer: (peer, offer) => {
        assert.equal(peer, PEER, name)
        own.offer = offer
        own.other?.shell.handleOffer(PEER, offer)
      },
      onPath: (_peer, path) => void (own.path = path?.kind),
      onPacket: packet => void packets.push(packet),
    }),
    packets,
    offer: undefined,
    other: undefined,
    path: undefined,
  }
  return own
}

function join(a: Side, b: Side): void {
  a.other = b
  b.other = a
  a.shell.do((endpoint, now) => endpoint.connect(PEER, true, now))
  b.shell.do((endpoint, now) => endpoint.connect(PEER, false, now))
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise(resolve => setTimeout(resolve, 5))
}

test('two shells find each other and carry packets both ways', async () => {
  const [a, b] = [side('a'), side('b')]
  await using _a = a.shell
  await using _b = b.shell
  await a.shell.listen(4)
  await b.shell.listen(4)
  assert.equal(a.shell.send(PEER, PACKET), false)
  join(a, b)
  await until(() => a.path === 'direct' && b.path === 'direct')
  assert.ok(a.shell.send(PEER, PACKET) && b.shell.send(PEER, PACKET))
  await until(() => a.packets.length > 0 && b.packets.length > 0)
  assert.deepEqual(Buffer.from(b.packets[0]?.bytes ?? []), PACKET)
})

test('garbage is no offer', async () => {
  const a = side('a')
  await using _a = a.shell
  assert.equal(a.shell.handleOffer(PEER, Buffer.alloc(40)), false)
  assert.equal(a.shell.handleOffer(PEER, Buffer.alloc(0)), false)
})

test('a socket that somebody else reads gives its STUN to the shell, and what is to be sent comes back', async () => {
  const [a, b] = [side('a'), side('b')]
  await using _a = a.shell
  await using _b = b.shell
  const socket = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(socket, 'listening')
  const local = a.shell.attach(4, socket.address().port, (to, bytes) => socket.send(bytes, to.port, to.host))
  const packets: Buffer[] = []
  socket.on('message', (bytes, from) => {
    if (isStun(bytes, 0, bytes.length)) a.shell.deliver(bytes, { host: from.address, port: from.port }, local)
    else packets.push(bytes)
  })
  await b.shell.listen(4)
  join(a, b)
  await until(() => a.path === 'direct' && b.path === 'direct')
  b.shell.send(PEER, PACKET)
  await until(() => packets.length > 0)
  a.shell.detach(local)
  assert.equal(a.path, undefined)
  socket.close()
})

test('a relay is used until the direct way is there, and again when that is gone', async () => {
  const [a, b] = [side('a'), side('b')]
  await using _a = a.shell
  await using _b = b.shell
  // A port that a relay would hold for `a`: what comes there is delivered, what `a` sends there goes out.
  const relay = dgram.createSocket('udp4').bind(0, '127.0.0.1')
  await once(relay, 'listening')
  const address = { host: '127.0.0.1', port: relay.address().port }
  const local = a.shell.attachRelay(address, (to, bytes) => relay.send(bytes, to.port, to.host))
  relay.on('message', (bytes, from) => a.shell.deliver(bytes, { host: from.address, port: from.port }, local))
  await b.shell.listen(4)
  join(a, b)
  await until(() => a.path === 'relayed' && b.path === 'relayed')
  const { local: direct } = await a.shell.listen(4)
  await until(() => a.path === 'direct' && b.path === 'direct')
  a.shell.detach(direct)
  assert.equal(a.path, 'relayed')
  const timer = setInterval(() => b.shell.send(PEER, PACKET), 50)
  await until(() => b.path === 'relayed' && a.packets.length > 0)
  clearInterval(timer)
  relay.close()
})
