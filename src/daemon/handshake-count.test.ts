import assert from 'node:assert/strict'
import test from 'node:test'
import type { Command } from '#forward/commands.ts'
import { HandshakeCount } from './handshake-count.ts'

test('handshakes are counted as they are sent, answered, renewed and given up, and nothing else is', () => {
  const count = new HandshakeCount()
  const of = (...kinds: string[]) => kinds.map(kind => ({ kind })) as unknown as Command[]
  count.handleCommands(of('sendHandshake', 'sendHandshake', 'installSession', 'sendControl', 'removeSession'))
  count.handleCommands(of('sendHandshake', 'installKeys', 'removeKeys'))
  count.handleFailure()
  assert.deepEqual(count.counters, {
    handshakesSent: 3,
    handshakesAnswered: 1,
    handshakesRenewed: 1,
    handshakesUnanswered: 1,
  })
})
