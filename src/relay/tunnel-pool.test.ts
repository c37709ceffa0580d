import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { type Lease, TunnelPool } from './tunnel-pool.ts'

const network4 = { address: Uint8Array.of(10, 64, 3, 77), bits: 24 }
const network6 = { address: Buffer.from('fd686f706c6974650000000000000001', 'hex'), bits: 64 }

const pool = (networks: ConstructorParameters<typeof TunnelPool>[0] = { network4, network6 }) =>
  new TunnelPool(networks, seededRandom('pool'))
const take = (from: TunnelPool): Lease => from.take() ?? assert.fail('the pool is exhausted')
const text = ({ addresses }: Lease) => [...(addresses.address4 ?? [])].join('.')

test('every client has addresses of its own until there are none left', () => {
  const addresses = pool()
  assert.equal(addresses.available, 253)
  const given = new Set<string>()
  for (let i = 0; i < 253; i++) given.add(text(take(addresses)))
  assert.equal(given.size, 253)
  for (const reserved of ['10.64.3.0', '10.64.3.1', '10.64.3.255']) assert.ok(!given.has(reserved), reserved)
  assert.equal(addresses.take(), undefined)
  assert.equal(addresses.available, 0)
})

test('both addresses of a client end alike, each in its network', () => {
  const { address4, address6 } = take(pool()).addresses
  assert.deepEqual([...(address4 ?? [])].slice(0, 3), [10, 64, 3])
  assert.equal(Buffer.from(address6 ?? []).toString('hex', 0, 15), 'fd686f706c69746500000000000000')
  assert.equal(address6?.[15], address4?.[3])
})

test('an address that came back is the last to be given again, and giving it back twice does no harm', () => {
  const addresses = pool({ network4: { ...network4, bits: 28 } })
  const first = take(addresses)
  const others = Array.from({ length: addresses.available - 1 }, () => take(addresses))
  addresses.release(first)
  addresses.release(first)
  assert.equal(addresses.available, 2)
  assert.notEqual(take(addresses).number, first.number)
  assert.equal(take(addresses).number, first.number)
  assert.equal(addresses.take(), undefined)
  assert.ok(others.every(({ number }) => number !== first.number))
})

test('no address is given to two at once, whatever the order of taking and giving back', () => {
  const random = seededRandom('churn')
  const addresses = pool({ network6: { ...network6, bits: 122 } })
  const inUse = new Map<number, Lease>()
  for (let i = 0; i < 5_000; i++) {
    const [draw = 0] = random(1)
    if (draw < 140) {
      const lease = addresses.take()
      if (lease === undefined) assert.equal(inUse.size, 62)
      else {
        assert.ok(!inUse.has(lease.number))
        inUse.set(lease.number, lease)
      }
    } else {
      const lease = [...inUse.values()][draw % Math.max(inUse.size, 1)]
      if (lease === undefined) continue
      inUse.delete(lease.number)
      addresses.release(lease)
    }
    assert.equal(addresses.available + inUse.size, 62)
  }
})

test('the order is not to be guessed, and the largest networks give 65,533 pairs', () => {
  const large = { network4: { address: Uint8Array.of(10, 64, 0, 0), bits: 16 }, network6 }
  const [a, b] = [new TunnelPool(large, seededRandom('a')), new TunnelPool(large, seededRandom('b'))]
  assert.equal(a.available, 65_533)
  assert.notDeepEqual(
    [take(a), take(a), take(a)].map(({ number }) => number),
    [take(b), take(b), take(b)].map(({ number }) => number),
  )
  assert.equal(pool({ network6 }).available, 65_534)
})

test('networks that are none are refused', () => {
  for (const bits of [0, 15, 30, 32, 24.5]) assert.throws(() => pool({ network4: { ...network4, bits } }), RangeError)
  for (const bits of [63, 126, 129]) assert.throws(() => pool({ network6: { ...network6, bits } }), RangeError)
  assert.throws(() => pool({ network4: { address: new Uint8Array(16), bits: 24 } }), RangeError)
  assert.throws(() => pool({}), RangeError)
})
