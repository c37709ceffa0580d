import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Codel } from './codel.ts'

/** Packets that leave one a millisecond, each after a wait of its own; gives when those left that were shed. */
function shedAt(waits: (ms: number) => number, untilMs: number, codel = new Codel(), fromMs = 0): number[] {
  const shed: number[] = []
  for (let ms = fromMs; ms < untilMs; ms++) if (codel.sheds(waits(ms), false, ms)) shed.push(ms)
  return shed
}

test('a burst is not touched, however long, when the queue is empty again within an interval', () => {
  // Ninety milliseconds of ever shorter waits, over and over.
  assert.deepEqual(
    shedAt(ms => 90 - (ms % 91), 2_000),
    [],
  )
})

test('a queue that stands for an interval loses a packet, then more and more often', () => {
  const shed = shedAt(() => 20, 1_000)
  assert.equal(shed[0], 100)
  const gaps = shed.slice(1).map((ms, i) => ms - (shed[i] ?? 0))
  assert.deepEqual(gaps.slice(0, 4), [100, 71, 58, 50], 'interval / √count, RFC 8289 §5.4')
  for (const [i, gap] of gaps.entries()) assert.ok(i === 0 || gap <= (gaps[i - 1] ?? 0) + 1)
})

test('one packet that has waited less than the target ends it', () => {
  const shed = shedAt(ms => (ms === 250 ? 4 : 20), 349)
  assert.deepEqual(shed, [100, 200])
})

test('when it begins again soon it begins with the rate that was needed before', () => {
  const codel = new Codel()
  const before = shedAt(() => 20, 1_000, codel).length
  codel.sheds(0, false, 1_000)
  const [first = 0, second = 0] = shedAt(() => 20, 1_400, codel, 1_001)
  assert.equal(first, 1_101)
  assert.ok(second - first <= Math.ceil(100 / Math.sqrt(before - 1)), `${second - first} ms`)
  codel.sheds(0, false, 1_400)
  const [late = 0, later = 0] = shedAt(() => 20, 9_000, codel, 8_000)
  assert.deepEqual([late, later], [8_100, 8_200], 'after a long time it begins anew')
})

test('the last packet of a queue is never shed: nothing would move up', () => {
  const codel = new Codel()
  for (let ms = 0; ms < 1_000; ms++) assert.equal(codel.sheds(50, true, ms), false)
})

test('a thread that was stopped for a minute does not make up for what it has not shed', () => {
  const codel = new Codel()
  shedAt(() => 20, 500, codel)
  assert.ok(shedAt(() => 60_000, 60_510, codel, 60_500).length <= 5)
})

test('a wait that is negative, as the clock was set, is none', () => {
  assert.deepEqual(
    shedAt(() => -3_600_000, 500),
    [],
  )
})

/** A sender that raises its window until it loses a packet, through a queue that sends one packet a millisecond; RTT 20 ms. */
function waitsOf(codel: Codel | undefined, limit: number): { readonly waits: number[]; readonly sent: number } {
  const queue: number[] = []
  const back: { at: number; isLost: boolean }[] = []
  const waits: number[] = []
  let window = 10
  let flying = 0
  let calmUntil = 0
  const lose = (ms: number) => back.push({ at: ms + 20, isLost: true })
  for (let ms = 0; ms < 20_000; ms++) {
    for (; (back[0]?.at ?? Infinity) <= ms; back.shift()) {
      flying--
      if (!back[0]?.isLost) window += 1 / window
      else if (ms >= calmUntil) {
        window = Math.max(window * 0.7, 2)
        calmUntil = ms + 20
      }
    }
    for (; flying < Math.floor(window); flying++) {
      if (queue.length < limit) queue.push(ms)
      else lose(ms)
    }
    const since = queue.shift()
    if (since === undefined) continue
    if (codel?.sheds(ms - since, queue.length === 0, ms)) {
      lose(ms)
      continue
    }
    back.push({ at: ms + 20, isLost: false })
    waits.push(ms - since)
  }
  return { waits: waits.slice(2_000).sort((a, b) => a - b), sent: waits.length }
}

test('with a sender that obeys, the queue shrinks to near the target and the path stays busy', () => {
  const at = (waits: readonly number[], percent: number) => waits[Math.floor((waits.length * percent) / 100)] ?? 0
  const plain = waitsOf(undefined, 400)
  const kept = waitsOf(new Codel(), 400)
  assert.ok(at(plain.waits, 50) > 100, `${at(plain.waits, 50)} ms without`)
  assert.ok(at(kept.waits, 50) <= 10, `${at(kept.waits, 50)} ms`)
  assert.ok(at(kept.waits, 99) <= 30, `${at(kept.waits, 99)} ms`)
  assert.ok(kept.sent > plain.sent * 0.93, `${kept.sent} of ${plain.sent}`)
})
