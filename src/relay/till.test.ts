import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Command, Via } from '#forward/commands.ts'
import { hopKeys, initiate } from '#session/hop-handshake.ts'
import { type ControlAnswer, type ControlRequest, decodeControl, encodeControl, REFUSAL } from '#wire/control.ts'
import { TOKEN_BYTES } from '#wire/token.ts'
import { Hop } from './hop.ts'
import { Till } from './till.ts'

const FROM: Via = { kind: 'socket', address: { host: '192.0.2.1', port: 1000 } }
const TARIFF = { quantumBytes: 1_000, freeBytes: 300 }

test('a session begins with its free allowance, and a token buys a quantum and a quantum on trust', () => {
  const { session, commands, pay, use } = relay()
  assert.deepEqual(limits(commands), [{ kind: 'limitSession', session, bytes: 300 }])
  assert.deepEqual(pay(1, good(1)).commands, [{ kind: 'reportUse', session }])
  const settled = use(250, 40)
  assert.deepEqual(limits(settled.commands), [{ kind: 'limitSession', session, bytes: 2_300 }])
  assert.deepEqual(settled.answers, [{ kind: 'pay', outwardBytes: 250 }])
})

test('a token that was taken before, or is worth nothing, buys nothing', () => {
  const { till, session, pay, use } = relay()
  pay(1, good(1))
  use(0, 0)
  const refused = [{ kind: 'refused', request: 'pay', reason: REFUSAL.paymentRefused }]
  assert.deepEqual(pay(2, good(1)).answers, refused)
  assert.deepEqual(pay(3, good(0)).answers, refused)
  assert.equal(till.taken, 1)
  assert.equal(till.refused, 2)
  assert.deepEqual(limits(use(0, 0).commands), [], `session ${session} has what it paid for`)
})

test('a payment that is repeated under its number is taken once and answered the same', () => {
  const { till, pay, use } = relay()
  pay(1, good(1))
  assert.deepEqual(pay(1, good(1)).commands, [], 'it waits for the count')
  const { answers } = use(10, 0)
  assert.deepEqual(pay(1, good(1)).answers, answers)
  assert.equal(till.taken, 1)
})

test('payments that wait for the count are bounded', () => {
  const { till, pay } = relay()
  for (let number = 1; number <= 20; number++) pay(number, good(number))
  assert.equal(till.taken, 8)
  assert.equal(till.refused, 12)
})

test('a hop that asks for nothing refuses payments, and says nothing of limits', () => {
  const { commands, pay } = relay({ isFree: true })
  assert.deepEqual(limits(commands), [])
  assert.deepEqual(pay(1, good(1)).answers, [{ kind: 'refused', request: 'pay', reason: REFUSAL.paymentRefused }])
})

test('whoever claims to have accepted more than was sent gains nothing, and who denies what it got is stopped', () => {
  const { pay, use } = relay()
  pay(1, good(1), 2 ** 50)
  assert.equal(limits(use(100, 100).commands)[0]?.bytes, 2_300)
  // Everything inward is denied, token after token: each buys a little less than what it would.
  let carried = 200
  let tokens = 1
  for (; tokens < 50; tokens++) {
    pay(tokens + 1, good(tokens + 1), 0)
    carried = limits(use(0, carried).commands)[0]?.bytes ?? 0
  }
  assert.ok(carried <= 300 + (tokens + 1) * 1_000 * (1 + 1 / 16), `${carried} bytes for ${tokens} tokens`)
})

/** A hop with one session; tokens whose first byte is not 0 are good, once. */
function relay({ isFree = false } = {}) {
  const random = seededRandom('till')
  const keys = hopKeys(generateX25519().privateKey)
  const seen = new Set<number>()
  const take = ([first = 0]: Uint8Array) => first > 0 && !seen.has(first) && seen.add(first) !== undefined
  const till = new Till({ tariff: TARIFF, take })
  const limitsOfHop = { maxSessions: 4, maxFlows: 6, maxFlowsPerSession: 3 }
  const hop = new Hop(
    { keys, limits: limitsOfHop, random, mayReachHop: () => true, isExit: false, ...(!isFree && { till }) },
    0,
  )
  const { message } = initiate({ staticPublic: keys.publicKey, localIndex: 1, random })
  hop.handleReport({ kind: 'handshake', bytes: message, from: FROM }, 0)
  const commands = hop.take()
  const session = commands.find(command => command.kind === 'installSession')?.session ?? 0
  const drain = () => {
    const taken = hop.take()
    return { commands: taken.filter(({ kind }) => kind !== 'sendControl'), answers: taken.flatMap(answerOf) }
  }
  const pay = (number: number, token: Uint8Array, acceptedBytes = 0) => {
    const request: ControlRequest = { kind: 'pay', token, acceptedBytes }
    hop.handleReport({ kind: 'control', session, bytes: encodeControl({ type: 'request', number, request }) }, 0)
    return drain()
  }
  const use = (received: number, sent: number) => {
    hop.handleReport({ kind: 'sessionUse', session, sent, received }, 0)
    return drain()
  }
  return { till, session, commands, pay, use }
}

function answerOf(command: Command): ControlAnswer[] {
  const message = command.kind === 'sendControl' ? decodeControl(command.bytes) : undefined
  return message?.type === 'answer' ? [message.answer] : []
}

function limits(commands: readonly Command[]) {
  return commands.filter(command => command.kind === 'limitSession')
}

function good(n: number): Uint8Array {
  return new Uint8Array(TOKEN_BYTES).fill(n)
}
