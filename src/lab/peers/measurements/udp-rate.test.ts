import assert from 'node:assert/strict'
import test from 'node:test'
import { highestRate } from './udp-rate.ts'

/** A path that carries `capacity` packets a second, with a sender that cannot send more than `most`. */
function path(capacity: number, most = Infinity) {
  const asked: number[] = []
  const send = async (rate: number) => {
    asked.push(rate)
    const sentPackets = Math.min(rate, most)
    return { sentPackets, lostPackets: Math.max(0, sentPackets - capacity), seconds: 1 }
  }
  return { asked, send }
}

test('the rate found is within a twentieth of what a path carries, in at most eight steps', async () => {
  for (const capacity of [3_000, 20_000, 71_000, 333_000]) {
    const { asked, send } = path(capacity)
    const found = (await highestRate(send)) ?? 0
    assert.ok(found <= capacity && found > capacity * 0.95, `${found} of ${capacity}`)
    assert.ok(new Set(asked).size <= 8)
  }
})

test('a sender that cannot send more ends the search with what arrived', async () => {
  const { asked, send } = path(Infinity, 90_000)
  assert.equal(await highestRate(send), 90_000)
  assert.ok(asked.length < 8)
})

test('one run with loss by chance does not hide the rates above it', async () => {
  const { asked, send } = path(50_000)
  const found = await highestRate(rate =>
    asked.length === 0 ? send(rate).then(result => ({ ...result, lostPackets: result.sentPackets })) : send(rate),
  )
  assert.ok(found !== undefined && found > 47_000)
})

test('a path that loses too much at every rate has none', async () => {
  assert.equal(await highestRate(path(100).send), undefined)
})
