import assert from 'node:assert/strict'
import test from 'node:test'
import type { Command } from '#forward/commands.ts'
import type { Address } from '#wire/address.ts'
import { defaultConfig } from '../config.ts'
import { openLog } from '../log.ts'
import { RelayGate } from './relay-gate.ts'

const [A, B] = [
  { host: '192.0.2.1', port: 1 },
  { host: '192.0.2.2', port: 2 },
]
const config = defaultConfig()
const log = openLog({ ...config, log: { ...config.log, level: 'error' } }, 'test', { write: () => true } as never)

/** A firewall whose changes take as long as the test wants. */
function setUp() {
  const state = { wanted: [A] as Address[], open: [] as Address[], told: [] as string[], sent: [] as number[] }
  const waiting: ((error?: Error) => void)[] = []
  const gate = new RelayGate({
    firewall: {
      reaches: relays => relays.every(relay => state.open.includes(relay)),
      allow: relays =>
        new Promise((resolve, reject) => {
          state.told.push(relays.map(({ host }) => host).join(' '))
          waiting.push(error => {
            if (error !== undefined) return reject(error)
            state.open = [...relays]
            resolve()
          })
        }),
    },
    relays: () => state.wanted,
    carryOut: commands => state.sent.push(...commands.map(sessionOf)),
    log,
  })
  const settle = async (error?: Error) => {
    await new Promise(resolve => setImmediate(resolve))
    waiting.shift()?.(error)
    await new Promise(resolve => setImmediate(resolve))
  }
  return { state, gate, settle }
}

function command(session: number): Command {
  return { kind: 'removeSession', session }
}

function sessionOf(command: Command): number {
  return command.kind === 'removeSession' ? command.session : -1
}

test('commands wait until the firewall knows their relays, and keep their order', async () => {
  const { state, gate, settle } = setUp()
  gate.send([command(1)])
  state.wanted = [A, B]
  gate.send([command(2)])
  await settle()
  assert.deepEqual(state.sent, [1])
  await settle()
  assert.deepEqual(state.sent, [1, 2])
  assert.deepEqual(state.told, ['192.0.2.1', '192.0.2.1 192.0.2.2'])
  gate.send([command(3)])
  assert.deepEqual(state.sent, [1, 2, 3], 'what is known is sent at once')
})

test('a relay that is not spoken to any more keeps nothing waiting, and goes with the next change', async () => {
  const { state, gate, settle } = setUp()
  state.wanted = [A, B]
  gate.send([command(1)])
  await settle()
  state.wanted = [B]
  gate.send([command(2)])
  assert.deepEqual(state.sent, [1, 2])
  assert.equal(state.told.length, 1)
  const c = { host: '192.0.2.3', port: 3 }
  state.wanted = [B, c]
  gate.send([command(3)])
  await settle()
  assert.deepEqual(state.open, [B, c])
})

test('when the firewall cannot be changed commands go on, and it is tried again', async () => {
  const { state, gate, settle } = setUp()
  gate.send([command(1)])
  await settle(new Error('no'))
  assert.deepEqual(state.sent, [1])
  gate.send([command(2)])
  await settle()
  assert.deepEqual([state.sent, state.told.length], [[1, 2], 2])
})

test('without a firewall nothing waits', async () => {
  const sent: Command[] = []
  const gate = new RelayGate({ firewall: undefined, relays: () => [A], carryOut: more => sent.push(...more), log })
  gate.send([command(1)])
  gate.send([])
  await gate.settled()
  assert.equal(sent.length, 1)
})

test('what is not spoken to any more is shut out at once where that is wanted, after what waits', async () => {
  const { state, gate, settle } = setUp()
  state.wanted = [A, B]
  gate.send([command(1)])
  await settle()
  state.wanted = [B]
  gate.tighten()
  await settle()
  assert.deepEqual(state.open, [B])
  assert.deepEqual(state.told, ['192.0.2.1 192.0.2.2', '192.0.2.2'])
  await gate.settled()
})
