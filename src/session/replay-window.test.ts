import assert from 'node:assert/strict'
import { test } from 'node:test'
import { REPLAY_WINDOW, ReplayWindow } from './replay-window.ts'

/** The slow twin: a set of every counter seen. */
class SeenSet {
  readonly seen = new Set<number>()
  newest = -1
  isFresh(counter: number): boolean {
    return counter > this.newest || (this.newest - counter < REPLAY_WINDOW && !this.seen.has(counter))
  }
  mark(counter: number): void {
    this.seen.add(counter)
    this.newest = Math.max(this.newest, counter)
  }
}

function generator(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32
  }
}

test('each counter is fresh once', () => {
  const window = new ReplayWindow()
  for (const counter of [0, 1, 5, 3, 2, 4, 100, 99]) {
    assert.equal(window.isFresh(counter), true)
    window.mark(counter)
    assert.equal(window.isFresh(counter), false)
  }
})

test('a counter behind the window is not fresh, however it was before', () => {
  const window = new ReplayWindow()
  window.mark(REPLAY_WINDOW + 10)
  assert.equal(window.isFresh(10), false)
  assert.equal(window.isFresh(11), true)
})

test('a jump of any size forgets exactly what fell out of the window', () => {
  for (const jump of [31, 32, 33, 4_096, REPLAY_WINDOW - 1, REPLAY_WINDOW, 9_000, 2 ** 33, 2 ** 47]) {
    const window = new ReplayWindow()
    for (let counter = 0; counter < 64; counter++) window.mark(counter)
    window.mark(63 + jump)
    for (let counter = 0; counter < 64; counter++)
      assert.equal(window.isFresh(counter), false, `counter ${counter}, jump ${jump}`)
    if (jump > 1) assert.equal(window.isFresh(63 + jump - 1), true)
  }
})

test('agrees with a set of every counter seen, on random walks', () => {
  for (let seed = 1; seed <= 20; seed++) {
    const random = generator(seed)
    const window = new ReplayWindow()
    const twin = new SeenSet()
    let base = 0
    for (let i = 0; i < 4_000; i++) {
      base += random() < 0.01 ? Math.floor(random() * 20_000) : Math.floor(random() * 4)
      const counter = Math.max(0, base - Math.floor(random() * (random() < 0.1 ? 10_000 : 64)))
      assert.equal(window.isFresh(counter), twin.isFresh(counter), `seed ${seed}, step ${i}, counter ${counter}`)
      if (!twin.isFresh(counter)) continue
      window.mark(counter)
      twin.mark(counter)
    }
  }
})
