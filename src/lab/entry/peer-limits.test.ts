// The limits of a peer where they count: a process, and packets.

import assert from 'node:assert/strict'
import test from 'node:test'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { HOSTS, startClient, startPeer, startServer } from './peer-process.ts'

const TEXT = Buffer.from('anything')
const MIB = 2 ** 20

test('when the day’s volume is used the flow ends, others are refused, and a crash does not give it anew', async t => {
  if (skipUnless(t, process.platform === 'linux', 'all of 127/8 is loopback only on Linux')) return
  const { end: theirs, socket } = await startServer(t)
  const server = { host: HOSTS.server, port: socket.address().port }
  const peer = await startPeer(t, server, ['volume_mib_per_day = 1', 'rate_kbit = 1_000_000'])
  const { end: mine, flow, entry } = await startClient(t, peer, server)
  mine.know(theirs, 2, entry)
  theirs.know(mine, 1)
  mine.say(TEXT, 2, 100)
  await waitFor(async () => theirs.received[0], 'a packet at the server')
  for (let sent = 0; sent < 1.2 * MIB; sent += 1_400 * 40) {
    for (let i = 0; i < 40; i++) mine.say(TEXT, 2, 1_400)
    await new Promise(resolve => setImmediate(resolve))
  }
  await waitFor(async () => flow.isEnded || undefined, 'word that the flow ended')
  const status = await peer.status()
  assert.deepEqual([status.closed, status.clients, status.flows], ['volume', 0, 0])
  assert.ok(status.bytesToday >= MIB && status.bytesToday < 2 * MIB, `${status.bytesToday} bytes`)

  const before = theirs.received.length
  mine.say(TEXT, 2, 1_400)
  const again = await peer.crash()
  assert.equal((await again.status()).closed, 'volume')
  const late = await startClient(t, again, server)
  assert.equal(late.flow.isOpen, false)
  assert.deepEqual((await again.status()).refused, { volume: 1 })
  assert.equal(theirs.received.length, before, 'nothing came after the end')
})
