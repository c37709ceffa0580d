import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Shortage } from './shortage.ts'

test('an empty wallet is told for a minute after the last session that it could not pay, or until there are credits', () => {
  const shortage = new Shortage()
  assert.equal(
    shortage.look(undefined, 0, 0),
    undefined,
    'an empty wallet alone is no trouble: relays may ask for nothing',
  )
  assert.equal(shortage.look('empty', 0, 1_000), 'empty')
  assert.equal(shortage.look(undefined, 0, 60_999), 'empty', 'the session has ended')
  assert.equal(shortage.look(undefined, 0, 61_000), undefined)
  assert.equal(shortage.look('empty', 0, 70_000), 'empty')
  assert.equal(shortage.look(undefined, 5, 71_000), undefined, 'a voucher was redeemed')
})

test('a spent limit is told though there are credits; a relay that is slow to count is nothing to tell', () => {
  const shortage = new Shortage()
  assert.equal(shortage.look('relayIsIdle', 5, 0), undefined)
  assert.equal(shortage.look('limitReached', 5, 1_000), 'limitReached')
  assert.equal(shortage.look(undefined, 5, 2_000), 'limitReached')
})
