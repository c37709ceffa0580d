import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { SpentFilter, type SpentTable } from './spent-filter.ts'

const KEY = new Uint8Array(32).fill(1)

test('every token that was seen is known again, and the table is asked for few that were not', () => {
  const table = memory()
  const filter = new SpentFilter(table, new Uint8Array(16))
  const random = seededRandom('spent tokens')
  const seen = Array.from({ length: 20_000 }, () => random(32))
  for (const nonce of seen) {
    assert.equal(filter.has(KEY, nonce), false)
    table.add(KEY, nonce)
    filter.add(KEY, nonce)
  }
  table.asked = 0
  for (let i = 0; i < 20_000; i++) assert.equal(filter.has(KEY, random(32)), false)
  assert.ok(table.asked < 5, `${table.asked} needless questions`)
  for (const nonce of seen) assert.equal(filter.has(KEY, nonce), true)
})

test('a full filter asks the table every time and is never wrong', () => {
  const table = memory()
  const filter = new SpentFilter(table, new Uint8Array(16), 64)
  const random = seededRandom('a full filter')
  for (let i = 0; i < 500; i++) {
    const nonce = random(32)
    assert.equal(filter.has(KEY, nonce), false)
    table.add(KEY, nonce)
    filter.add(KEY, nonce)
    assert.equal(filter.has(KEY, nonce), true)
  }
})

test('after a start the filter is what the table has, and the same nonce under another key is another token', () => {
  const table = memory()
  const nonce = new Uint8Array(32).fill(5)
  table.add(KEY, nonce)
  const filter = new SpentFilter(table, new Uint8Array(16))
  assert.equal(filter.has(KEY, nonce), true)
  assert.equal(filter.has(KEY.with(0, 2), nonce), false)
  filter.keep([])
  assert.equal(filter.has(KEY, nonce), true, 'forgotten filters come back from the table')
})

function memory(): SpentTable & { add(keyId: Uint8Array, nonce: Uint8Array): void; asked: number } {
  const rows = new Map<string, { keyId: string; nonce: Uint8Array }>()
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  return {
    asked: 0,
    has(keyId, nonce) {
      this.asked++
      return rows.has(hex(keyId) + hex(nonce))
    },
    add: (keyId, nonce) => void rows.set(hex(keyId) + hex(nonce), { keyId: hex(keyId), nonce }),
    nonces: keyId => [...rows.values()].filter(row => row.keyId === hex(keyId)).map(row => row.nonce),
  }
}
