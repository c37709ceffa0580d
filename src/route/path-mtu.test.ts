import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { BASE_MTU, PathMtu } from './path-mtu.ts'

/** A leg under a virtual clock that carries packets up to a size and answers probes after a while. */
class Leg {
  now = 1_000
  readonly machine: PathMtu
  readonly probes: number[] = []
  readonly sizes: number[] = []
  carries: number
  /** Whether this probe, counted from 0, gets lost whatever its size. */
  loses: (index: number) => boolean = () => false
  rttMs = 40
  #answers: { readonly atMs: number; readonly size: number }[] = []

  constructor(carries: number, max = 1_500, floor = BASE_MTU) {
    this.carries = carries
    this.machine = new PathMtu({ max, floor, now: this.now })
    this.#drain()
  }

  run(forMs: number): this {
    const end = this.now + forMs
    for (;;) {
      const next = Math.min(this.machine.deadline(), ...this.#answers.map(({ atMs }) => atMs))
      if (next > end) break
      this.now = Math.max(next, this.now)
      const due = this.#answers.filter(({ atMs }) => atMs <= this.now)
      this.#answers = this.#answers.filter(({ atMs }) => atMs > this.now)
      for (const { size } of due) this.machine.handleAnswer(size, this.now)
      this.machine.handleDeadline(this.now)
      this.#drain()
    }
    this.now = end
    return this
  }

  do(act: (machine: PathMtu, now: number) => void): this {
    act(this.machine, this.now)
    this.#drain()
    return this
  }

  #drain(): void {
    for (let command = this.machine.take(); command !== undefined; command = this.machine.take()) {
      const { kind, size } = command
      if (kind === 'resize') this.sizes.push(size)
      else {
        const isLost = size > this.carries || this.loses(this.probes.length)
        this.probes.push(size)
        if (!isLost) this.#answers.push({ atMs: this.now + this.rttMs, size })
      }
    }
  }
}

test('the base holds from the start, and a path that carries everything is known after two round trips', () => {
  const leg = new Leg(1_500)
  assert.equal(leg.machine.mtu, BASE_MTU)
  leg.run(80)
  assert.deepEqual(leg.probes, [BASE_MTU, 1_500])
  assert.deepEqual(leg.sizes, [1_500])
})

test('behind a black hole of 1,296 bytes nothing larger is ever said to pass, and the search ends', () => {
  const leg = new Leg(1_296).run(60_000)
  assert.ok(leg.machine.mtu <= 1_296 && leg.machine.mtu > 1_296 - 16, `${leg.machine.mtu}`)
  assert.ok(leg.sizes.every(size => size <= 1_296))
  const { length } = leg.probes
  assert.ok(length < 20, `${length} probes`)
  assert.equal(leg.run(500_000).probes.length, length)
})

test('whatever the path carries and loses now and then, what is found passes and is near the truth', () => {
  fc.assert(
    fc.property(fc.integer({ min: BASE_MTU, max: 1_500 }), fc.integer({ min: 3, max: 9 }), (carries, period) => {
      const leg = new Leg(carries)
      leg.loses = index => index % period === 0
      leg.run(120_000)
      assert.ok(leg.machine.mtu <= carries && leg.machine.mtu > carries - 16, `${leg.machine.mtu} of ${carries}`)
    }),
  )
})

test('a path that has become narrower is noticed while it is in use, and the base holds at once', () => {
  const leg = new Leg(1_500).run(1_000)
  leg.machine.handleUse()
  leg.carries = 1_400
  leg.run(33_500)
  assert.deepEqual(leg.sizes.slice(0, 2), [1_500, BASE_MTU])
  leg.run(60_000)
  assert.ok(leg.machine.mtu <= 1_400 && leg.machine.mtu > 1_384, `${leg.machine.mtu}`)
})

test('a suspicion is looked into at once, and is forgotten when the size is confirmed', () => {
  const leg = new Leg(1_500).run(1_000)
  leg.do((machine, now) => machine.handleSuspicion(now)).run(5_000)
  assert.deepEqual(leg.probes.slice(2), [1_500])
  assert.deepEqual(leg.sizes, [1_500])
  leg.carries = 1_300
  leg.do((machine, now) => machine.handleSuspicion(now)).run(3_000)
  assert.equal(leg.machine.mtu, BASE_MTU)
})

test('without use nothing is probed until the size is to be raised, and then the path may have become wider', () => {
  const leg = new Leg(1_300).run(60_000)
  const { length } = leg.probes
  leg.run(400_000)
  assert.equal(leg.probes.length, length)
  leg.carries = 1_500
  leg.run(600_000)
  assert.equal(leg.machine.mtu, 1_500)
})

test('a dead path is probed at the base for ever less often', () => {
  const leg = new Leg(0).run(3_600_000)
  assert.ok(leg.probes.length < 75, `${leg.probes.length}`)
  assert.ok(leg.probes.every(size => size === BASE_MTU))
  leg.carries = 1_500
  leg.run(61_000)
  assert.equal(leg.machine.mtu, 1_500)
})

test('while not even the base passes the floor holds, and what follows a base that passes is found as ever', () => {
  const leg = new Leg(1_200, 1_500, 1_124).run(10_000)
  assert.deepEqual(leg.sizes, [1_124])
  leg.carries = 1_500
  leg.run(61_000)
  assert.deepEqual(leg.sizes, [1_124, BASE_MTU, 1_500])
  leg.machine.handleUse()
  leg.carries = 1_200
  leg.run(40_000)
  assert.deepEqual(leg.sizes.slice(3), [1_124])
})

test('answers to what was not asked change nothing', () => {
  const leg = new Leg(0).run(10)
  for (const size of [0, 1_400, 1_500, 65_535]) leg.do((machine, now) => machine.handleAnswer(size, now))
  assert.equal(leg.machine.mtu, BASE_MTU)
})
