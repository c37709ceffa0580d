import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { AllowedIps, isPrefix, type Prefix } from './allowed-ips.ts'

interface Owner {
  readonly name: string
}
const owners: readonly Owner[] = ['a', 'b', 'c', 'd'].map(name => ({ name }))
const [a, b, c] = owners as [Owner, Owner, Owner]
const four = (text: string): Prefix => {
  const [address = '', bits = '32'] = text.split('/')
  return { address: Uint8Array.from(address.split('.').map(Number)), bits: Number(bits) }
}

/** The slow twin: every prefix as the text of its bits. */
class PrefixList {
  readonly prefixes = new Map<string, Owner>()
  insert({ address, bits }: Prefix, owner: Owner): void {
    this.prefixes.set(`${address.length}:${binary(address).slice(0, bits)}`, owner)
  }
  removeAll(owner: Owner): void {
    for (const [key, value] of this.prefixes) if (value === owner) this.prefixes.delete(key)
  }
  lookup(address: Uint8Array): Owner | undefined {
    const bits = binary(address)
    for (let length = bits.length; length >= 0; length--) {
      const owner = this.prefixes.get(`${address.length}:${bits.slice(0, length)}`)
      if (owner !== undefined) return owner
    }
    return undefined
  }
}

function binary(address: Uint8Array): string {
  return [...address].map(byte => byte.toString(2).padStart(8, '0')).join('')
}

test('the longest prefix wins over all peers, in whatever order they came', () => {
  for (const order of [
    [0, 1, 2],
    [2, 1, 0],
    [1, 2, 0],
  ]) {
    const table = new AllowedIps<Owner>()
    const prefixes = [
      [four('0.0.0.0/0'), a],
      [four('10.0.0.0/8'), b],
      [four('10.1.0.0/16'), c],
    ] as const
    for (const i of order) table.insert(prefixes[i]?.[0] as Prefix, prefixes[i]?.[1] as Owner)
    assert.equal(table.lookup(Uint8Array.of(10, 1, 2, 3), 0, 4), c)
    assert.equal(table.lookup(Uint8Array.of(0, 0, 10, 2, 0, 0), 2, 4), b)
    assert.equal(table.lookup(Uint8Array.of(192, 0, 2, 1), 0, 4), a)
    assert.equal(table.lookup(new Uint8Array(16), 0, 6), undefined, 'families are apart')
  }
})

test('a prefix that another peer has moves, whatever stands in its bits beyond; removing a peer takes only its own', () => {
  const table = new AllowedIps<Owner>()
  table.insert(four('10.1.2.3/16'), a)
  table.insert(four('10.1.0.0/16'), b)
  assert.equal(table.size, 1)
  assert.equal(table.lookup(Uint8Array.of(10, 1, 9, 9), 0, 4), b)
  table.insert(four('10.1.9.9/32'), a)
  table.removeAll(b)
  assert.equal(table.lookup(Uint8Array.of(10, 1, 9, 9), 0, 4), a)
  assert.equal(table.lookup(Uint8Array.of(10, 1, 9, 8), 0, 4), undefined)
  assert.deepEqual([...table.entries()], [[four('10.1.9.9/32'), a]])
})

test('a prefix is 4 or 16 bytes and has no more bits than they', () => {
  assert.equal(isPrefix(four('10.0.0.0/32')), true)
  for (const bits of [-1, 33, 1.5, Number.NaN]) assert.equal(isPrefix({ address: new Uint8Array(4), bits }), false)
  assert.equal(isPrefix({ address: new Uint8Array(5), bits: 8 }), false)
})

const address = fc.oneof(
  fc.uint8Array({ minLength: 4, maxLength: 4 }),
  fc.uint8Array({ minLength: 16, maxLength: 16 }),
  // Few different bytes, so that prefixes meet.
  fc.array(fc.constantFrom(0, 1, 128, 255), { minLength: 4, maxLength: 4 }).map(bytes => Uint8Array.from(bytes)),
  fc.array(fc.constantFrom(0, 1), { minLength: 16, maxLength: 16 }).map(bytes => Uint8Array.from(bytes)),
)
const step = fc.oneof(
  { weight: 9, arbitrary: fc.record({ address, bits: fc.nat(128), owner: fc.constantFrom(...owners) }) },
  { weight: 1, arbitrary: fc.record({ remove: fc.constantFrom(...owners) }) },
)

test('agrees with a list of every prefix, on any insertions and removals', () => {
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.array(address, { maxLength: 20 }), (steps, addresses) => {
      const table = new AllowedIps<Owner>()
      const twin = new PrefixList()
      for (const each of steps) {
        if ('remove' in each) {
          table.removeAll(each.remove)
          twin.removeAll(each.remove)
          continue
        }
        const prefix = { address: each.address, bits: Math.min(each.bits, each.address.length * 8) }
        table.insert(prefix, each.owner)
        twin.insert(prefix, each.owner)
      }
      assert.equal(table.size, twin.prefixes.size)
      const again = new PrefixList()
      for (const [prefix, owner] of table.entries()) again.insert(prefix, owner)
      assert.deepEqual(new Map([...again.prefixes].sort()), new Map([...twin.prefixes].sort()))
      for (const asked of [...addresses, ...steps.flatMap(each => ('address' in each ? [each.address] : []))]) {
        const buffer = Buffer.concat([Buffer.alloc(3, 0x55), asked])
        assert.equal(table.lookup(buffer, 3, asked.length === 4 ? 4 : 6), twin.lookup(asked))
      }
    }),
    { numRuns: 400, seed: 7 },
  )
})
