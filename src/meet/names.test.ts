import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type DnsMessage, decodeDns, encodeDnsName } from '#wire/dns.ts'
import { answerDns, type Names } from './names.ts'

const NAMES: Names = new Map([
  ['laptop', { ipv6: 'fd68:6f70:6c69::1', ipv4: '100.64.3.9' }],
  ['phone', { ipv6: 'fd68:6f70:6c69::2', ipv4: undefined }],
])
const TYPE = { A: 1, NS: 2, SOA: 6, PTR: 12, TXT: 16, AAAA: 28, ANY: 255 }

function query(name: string, type: number, { klass = 1, flags = 0x0100 } = {}): Buffer {
  const head = Buffer.from([0x12, 0x34, flags >> 8, flags & 0xff, 0, 1, 0, 0, 0, 0, 0, 0])
  return Buffer.concat([head, encodeDnsName(name), Buffer.from([type >> 8, type & 0xff, 0, klass])])
}

function ask(name: string, type: number, options = {}): DnsMessage {
  const answer = answerDns(query(name, type, options), NAMES)
  assert.ok(answer)
  const message = decodeDns(answer)
  assert.ok(message?.isResponse)
  assert.equal(message.id, 0x1234)
  return message
}

const data = (message: DnsMessage) => message.answers.map(({ data }) => Buffer.from(data).toString('hex'))

test('a paired device has its addresses, of the kind that was asked for', () => {
  assert.deepEqual(data(ask('laptop.hop', TYPE.A)), ['64400309'])
  assert.deepEqual(data(ask('laptop.hop', TYPE.AAAA)), ['fd686f706c6900000000000000000001'])
  assert.equal(ask('laptop.hop', TYPE.ANY).answers.length, 2)
  assert.ok(ask('laptop.hop', TYPE.A).isAuthoritative)
})

test('the question comes back in the case in which it was asked', () => {
  const asked = query('LapTop.HOP', TYPE.A)
  const answer = answerDns(asked, NAMES)
  assert.deepEqual(Buffer.from(answer ?? []).subarray(12, asked.length), asked.subarray(12))
  assert.deepEqual(data(ask('LapTop.HOP', TYPE.A)), ['64400309'])
})

test('what a device has not is told from a device that there is not', () => {
  for (const [name, type, rcode] of [
    ['phone.hop', TYPE.A, 0],
    ['laptop.hop', TYPE.TXT, 0],
    ['hop', TYPE.NS, 0],
    ['nobody.hop', TYPE.A, 3],
    ['a.laptop.hop', TYPE.A, 3],
  ] as const) {
    const message = ask(name, type)
    assert.equal(message.rcode, rcode, name)
    assert.equal(message.answers.length, 0)
    assert.equal(message.authorities[0]?.type, TYPE.SOA, 'with the time for which that holds')
  }
})

test('addresses lead back to names', () => {
  assert.deepEqual(data(ask('9.3.64.100.in-addr.arpa', TYPE.PTR)), [
    Buffer.from(encodeDnsName('laptop.hop')).toString('hex'),
  ])
  const reverse = `${'0'.repeat(19).split('').join('.')}.9.6.c.6.0.7.f.6.8.6.d.f`
  assert.equal(ask(`2.${reverse}.ip6.arpa`, TYPE.PTR).answers.length, 1)
  assert.equal(ask('1.3.64.100.in-addr.arpa', TYPE.PTR).rcode, 5)
})

test('names of others are refused, not looked up', () => {
  for (const name of ['example.org', 'hop.example.org', 'laptophop', '', 'nothop'])
    assert.equal(ask(name, TYPE.A).rcode, 5, name)
  assert.equal(ask('laptop.hop', TYPE.A, { klass: 3 }).rcode, 5)
})

test('what is no question gets an error or nothing, and never an answer to an answer', () => {
  assert.equal(ask('laptop.hop', TYPE.A, { flags: 0x2800 }).rcode, 4)
  assert.equal(answerDns(query('laptop.hop', TYPE.A, { flags: 0x8000 }), NAMES), undefined)
  const whole = query('laptop.hop', TYPE.A)
  for (let length = 0; length < whole.length; length++) {
    const answer = answerDns(whole.subarray(0, length), NAMES)
    if (answer !== undefined) assert.equal((answer[3] ?? 0) & 0xf, 1)
  }
  assert.equal(answerDns(Buffer.concat([whole, Buffer.alloc(600)]), NAMES), undefined)
})
