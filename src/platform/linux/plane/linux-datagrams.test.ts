import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Counters } from '#forward/counters.ts'
import type { Address } from '#wire/address.ts'
import { monotonicMs } from '../../clock.ts'
import { EventLoop } from './event-loop.ts'
import { LinuxDatagrams } from './linux-datagrams.ts'

/** More than are read in a turn, and no two that follow each other alike: they are not joined. */
const WAITING = 2_400
const TURNS = 8

/** Reads a queue that is never empty, in turns `everyMs` apart; how often it was said that it stands. */
function standing(everyMs: number): number {
  const loop = new EventLoop()
  const datagrams = new LinuxDatagrams({ counters: new Counters(), loop, now: monotonicMs })
  let [sent, received, said, turns] = [0, 0, 0, 0]
  datagrams.onStanding = isStanding => {
    if (isStanding) said++
  }
  let address: Address | undefined
  const onOpen = (own: Address) => {
    address = own
  }
  const bind = { host: '127.0.0.1', port: 0 }
  datagrams.open({ bind, isBusy: true }, { onDatagram: () => received++, onOpen })
  assert.ok(address)
  const sender = datagrams.open({ connect: address, isBusy: true }, { onDatagram: () => assert.fail() })
  const bytes = new Uint8Array(1_000)
  const refill = () => {
    for (; sent - received < WAITING; sent++) sender.send(bytes, 0, 100 + (sent % 500))
    datagrams.flush()
  }
  refill()
  const pause = new Int32Array(new SharedArrayBuffer(4))
  loop.run({
    settle: () => {
      if (turns++ === TURNS) loop.stop()
      assert.ok(received < sent)
      refill()
      Atomics.wait(pause, 0, 0, everyMs)
    },
    deadline: () => Number.POSITIVE_INFINITY,
    handleDeadline: () => {},
    now: monotonicMs,
  })
  datagrams.close()
  loop.close()
  return said
}

test('a socket says that its queue stands when datagrams have waited too long for long', t => {
  if (process.platform !== 'linux') return t.skip('needs Linux')
  assert.ok(standing(25) > 0)
})

test('a socket whose datagrams waited a moment says nothing', t => {
  if (process.platform !== 'linux') return t.skip('needs Linux')
  // On a machine that has no time for this thread they do wait: then it is tried again.
  const says = Array.from({ length: 20 }, () => 0)
  assert.ok(says.some(() => standing(0) === 0))
})
