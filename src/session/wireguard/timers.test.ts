import assert from 'node:assert/strict'
import { test } from 'node:test'
import { PeerTimers } from './timers.ts'

/** What the timers give until `end`, as `seconds action`, told nothing else in between. */
function play(
  timers: PeerTimers,
  end: number,
  then: (action: string, now: number) => void = () => undefined,
): string[] {
  const played: string[] = []
  for (let now = timers.deadline(); now <= end; now = timers.deadline()) {
    for (let action = timers.take(now); action !== undefined; action = timers.take(now)) {
      played.push(`${now / 1_000} ${action}`)
      then(action, now)
    }
  }
  return played
}

test('nothing is due before anything was said', () => {
  assert.equal(new PeerTimers().deadline(), Number.POSITIVE_INFINITY)
})

test('an initiation is repeated every 5 s and up to a third more, and given up 90 s after the first', () => {
  for (const [jitter, every] of [
    [0, 5],
    [1, 5.333],
  ] as const) {
    const timers = new PeerTimers()
    timers.initiationSent(0, jitter, false)
    const played = play(timers, 1_000_000, (action, now) => {
      if (action === 'retransmit') timers.initiationSent(now, jitter, true)
    })
    const count = Math.ceil(90 / every) - 1
    assert.equal(played.filter(line => line.endsWith('retransmit')).length, count)
    assert.equal(played[0], `${every} retransmit`)
    assert.equal(played[count], `${((count + 1) * every * 1_000) / 1_000} giveUp`)
    assert.match(played[count + 1] ?? '', /zeroKeys/, 'what keys there were go 540 s later')
    assert.equal(played.length, count + 2)
  }
})

test('a new wish for a handshake starts the 90 s again; a response ends them', () => {
  const timers = new PeerTimers()
  timers.initiationSent(0, 0, false)
  timers.initiationSent(80_000, 0, false)
  assert.deepEqual(play(timers, 85_000), ['85 retransmit'])
  timers.initiationSent(85_000, 0, true)
  timers.handshakeCompleted()
  assert.deepEqual(play(timers, 1_000_000), [])
})

test('data that nobody answers for 15 s asks for a handshake, counted from the first of it', () => {
  const timers = new PeerTimers()
  timers.dataSent(0)
  timers.dataSent(14_000)
  assert.deepEqual(play(timers, 100_000), ['15 initiate'])
  timers.dataSent(200_000)
  timers.packetReceived(210_000)
  assert.deepEqual(play(timers, 300_000), [])
})

test('data received and not answered for 10 s is answered by a keepalive, and again while more comes', () => {
  const timers = new PeerTimers()
  timers.dataReceived(0)
  assert.deepEqual(play(timers, 100_000), ['10 keepalive'])
  timers.dataReceived(100_000)
  timers.dataReceived(109_000)
  assert.deepEqual(play(timers, 200_000), ['110 keepalive', '120 keepalive'])
  timers.dataReceived(300_000)
  timers.packetSent(305_000)
  assert.deepEqual(play(timers, 400_000), [], 'anything sent is an answer')
})

test('a keepalive received asks for nothing', () => {
  const timers = new PeerTimers()
  timers.packetReceived(0)
  assert.equal(timers.deadline(), Number.POSITIVE_INFINITY)
})

test('a persistent keepalive follows every silence of its length, in either direction', () => {
  const timers = new PeerTimers()
  timers.setPersistentKeepalive(25_000, 0)
  assert.deepEqual(play(timers, 60_000), ['25 keepalive', '50 keepalive'])
  timers.packetSent(60_000)
  timers.packetReceived(70_000)
  assert.deepEqual(play(timers, 100_000), ['95 keepalive'])
  timers.setPersistentKeepalive(0, 100_000)
  assert.equal(timers.deadline(), Number.POSITIVE_INFINITY)
})

test('keys are wiped 540 s after the last were made', () => {
  const timers = new PeerTimers()
  timers.keysMade(0)
  timers.keysMade(100_000)
  assert.deepEqual(play(timers, 1_000_000), ['640 zeroKeys'])
})

test('a reset leaves the persistent keepalive and nothing else', () => {
  const timers = new PeerTimers()
  timers.initiationSent(0, 0, false)
  timers.keysMade(0)
  timers.dataSent(0)
  timers.dataReceived(0)
  timers.setPersistentKeepalive(1_000, 0)
  timers.reset()
  assert.equal(timers.deadline(), 1_000)
  timers.setPersistentKeepalive(0, 0)
  assert.equal(timers.deadline(), Number.POSITIVE_INFINITY)
})
