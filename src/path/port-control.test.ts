import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import type { Address } from '#wire/address.ts'
import { decodePortControl } from '#wire/port-control.ts'
import { PortControl } from './port-control.ts'

const ROUTER = { host: '192.168.1.1', port: 5_351 }
const OUTSIDE = '203.0.113.7'

/** A router that speaks one of the two, or nothing, and what it was sent. */
function world(speaks: 'pcp' | 'natPmp' | 'nothing') {
  const sent: Uint8Array[] = []
  const answers: Uint8Array[] = []
  const control = new PortControl({
    router: ROUTER.host,
    host: '192.168.1.2',
    port: 41_000,
    random: seededRandom('port control'),
    send: (_to, bytes) => {
      sent.push(bytes)
      const answer = routerAnswer(speaks, Buffer.from(bytes))
      if (answer !== undefined) answers.push(answer)
    },
  })
  const hear = (from: Address = ROUTER, now = 0) => {
    for (const answer of answers.splice(0)) control.handlePacket(answer, from, now)
  }
  return { control, sent, answers, hear }
}

function routerAnswer(speaks: string, request: Buffer): Buffer | undefined {
  if (speaks === 'nothing') return undefined
  if (request[0] === 2) {
    // RFC 6886 §3.5: version 0, and result 1 for a version that is not known.
    if (speaks === 'natPmp') return Buffer.from([0, 0x81, 0, 1, 0, 0, 0, 9])
    const answer = Buffer.from(request)
    answer[1] = 0x81
    answer.fill(0, 8, 24)
    answer.writeUInt16BE(50_000, 42)
    answer.set(OUTSIDE.split('.').map(Number), 56)
    return answer
  }
  if (request.length === 2) return Buffer.from([0, 0x80, 0, 0, 0, 0, 0, 9, ...OUTSIDE.split('.').map(Number)])
  const answer = Buffer.alloc(16)
  answer[1] = 0x81
  request.copy(answer, 8, 4, 6)
  answer.writeUInt16BE(50_000, 10)
  request.copy(answer, 12, 8, 12)
  return answer
}

test('a PCP request has the bytes of RFC 6887', () => {
  const { control, sent } = world('nothing')
  control.begin(0)
  const hex = Buffer.from(sent[0] ?? []).toString('hex')
  const nonce = hex.slice(48, 72)
  const address = '00000000000000000000ffffc0a80102'
  const anywhere = '00000000000000000000ffff00000000'
  assert.equal(hex, `0201000000000e10${address}${nonce}11000000a028a028${anywhere}`)
})

test('a router of either kind opens the port, is asked again at half time, and has it back at the end', () => {
  for (const kind of ['pcp', 'natPmp'] as const) {
    const { control, sent, hear } = world(kind)
    control.begin(0)
    hear()
    hear()
    assert.deepEqual(control.mapped, { host: OUTSIDE, port: 50_000 }, kind)
    assert.equal(control.deadline(), 1_800_000)
    sent.length = 0
    control.handleDeadline(1_800_000)
    hear(ROUTER, 1_800_000)
    assert.equal(control.deadline(), 3_600_000)
    const renewal = Buffer.from(sent.at(-1) ?? [])
    assert.equal(renewal.readUInt16BE(kind === 'pcp' ? 42 : 6), 50_000, 'the same port again')
    control.close()
    const last = Buffer.from(sent.at(-1) ?? [])
    assert.equal(last.readUInt32BE(kind === 'pcp' ? 4 : 8), 0)
    assert.equal(control.deadline(), Number.POSITIVE_INFINITY)
    assert.equal(control.mapped, undefined)
  }
})

test('a router that is silent is asked ten times in all, and then no more', () => {
  const { control, sent } = world('nothing')
  control.begin(0)
  for (let now = 0; now < 60_000; now += 50) control.handleDeadline(now)
  assert.equal(sent.length, 5 + 5 * 2, 'NAT-PMP asks two things')
  assert.equal(control.deadline(), Number.POSITIVE_INFINITY)
})

test('answers of others, with another nonce, for another port, cut or changed are not believed', () => {
  const { control, answers, hear } = world('pcp')
  control.begin(0)
  const [answer] = answers
  assert.ok(answer !== undefined)
  hear({ host: '192.168.1.66', port: 5_351 })
  assert.equal(control.mapped, undefined)
  for (let length = 0; length < answer.length; length++) control.handlePacket(answer.subarray(0, length), ROUTER, 0)
  for (const at of [0, 1, 24, 35, 36, 40]) {
    const changed = Buffer.from(answer)
    changed[at] = (changed[at] ?? 0) ^ 0x10
    control.handlePacket(changed, ROUTER, 0)
  }
  assert.equal(control.mapped, undefined)
  control.handlePacket(answer, ROUTER, 0)
  assert.ok(control.mapped !== undefined)
})

test('random bytes never throw', () => {
  const random = seededRandom('garbage')
  for (let i = 0; i < 20_000; i++) {
    const bytes = Buffer.from(random(i % 80))
    if (i % 2 === 0 && bytes.length > 1) bytes.set([i % 4, 0x81])
    decodePortControl(bytes)
  }
})
