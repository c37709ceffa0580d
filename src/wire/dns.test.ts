import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import fc from 'fast-check'
import { decodeDns, decodeDnsHeader, encodeDnsAnswer, encodeDnsName } from './dns.ts'

const VECTORS = new URL('../../../shared/vectors/configs-socks-dns/dns/packets.json', import.meta.url)
const hex = (text: string) => new Uint8Array(Buffer.from(text.replaceAll(' ', ''), 'hex'))

interface Packet {
  readonly name: string
  readonly hex: string
  readonly tshark_malformed: boolean
  readonly response: string
  readonly opcode: string
  readonly questions: string
  readonly qname: string
  readonly qtype: string
}

function packets(): Packet[] | undefined {
  if (!existsSync(VECTORS)) return undefined
  return (JSON.parse(readFileSync(VECTORS, 'utf8')) as { packets: Packet[] }).packets
}

/** RFC 1035 §4.1.4: F.ISI.ARPA at 20, FOO.F.ISI.ARPA and ARPA by pointers, and the root. */
const COMPRESSED = hex(
  '0001 8000 0003 0000 0000 0000' +
    '01 46 03 495349 04 41525041 00 0001 0001' +
    '03 464f4f c00c 0001 0001' +
    'c012 0001 0001',
)

test('names are read through their pointers, in lower case', () => {
  const names = decodeDns(COMPRESSED)?.questions.map(({ name }) => name)
  assert.deepEqual(names, ['f.isi.arpa', 'foo.f.isi.arpa', 'arpa'])
})

test('pointers that go round, forward or into the header are refused', () => {
  const query = (name: string) => hex(`0001 0000 0001 0000 0000 0000 ${name} 0001 0001`)
  for (const name of ['c00c', 'c00d 00', '01 61 c00c', 'c000', 'c0ff', '40 00', '80', 'c0'])
    assert.equal(decodeDns(query(name)), undefined, name)
  assert.ok(decodeDns(query('00')))
})

test('a name has at most 255 bytes, however it is put together', () => {
  const label = `3f${'61'.repeat(63)}`
  const query = (name: string) => hex(`0001 0000 0001 0000 0000 0000 ${name} 0001 0001`)
  assert.ok(decodeDns(query(`${label.repeat(3)} 3d${'61'.repeat(61)} 00`)))
  assert.equal(decodeDns(query(`${label.repeat(4)} 00`)), undefined)
})

test('bytes that would change what a name says are written as numbers', () => {
  const query = hex(`0001 0000 0001 0000 0000 0000 04 612e5c00 00 0001 0001`)
  assert.equal(decodeDns(query)?.questions[0]?.name, 'a\\046\\092\\000')
})

test('on messages of other implementations, the header is theirs, and what they can read so can we', t => {
  const all = packets()
  if (all === undefined) return t.skip('the third-party vectors are not beside the repository')
  let read = 0
  for (const packet of all) {
    const bytes = hex(packet.hex)
    const header = decodeDnsHeader(bytes)
    if (packet.response !== '' && header !== undefined) {
      assert.equal(header.isResponse, packet.response === '1', packet.name)
      assert.equal(String(header.opcode), packet.opcode, packet.name)
    }
    const message = decodeDns(bytes)
    if (message === undefined || packet.tshark_malformed) continue
    read++
    const [question] = message.questions
    if (packet.questions !== '1' || question === undefined || !/^[\x21-\x7e]+$/.test(packet.qname)) continue
    if (/[\\<]/.test(packet.qname + question.name)) continue
    assert.equal(question.name, packet.qname.toLowerCase().replace(/^\.$/, ''), packet.name)
    assert.equal(String(question.type), packet.qtype, packet.name)
  }
  const sound = all.filter(packet => !packet.tshark_malformed && packet.response !== '').length
  assert.ok(read >= sound * 0.8, `read ${read} of ${sound}`)
})

test('cut off anywhere, changed anywhere, or garbage: a value, never an exception', t => {
  const samples = [COMPRESSED, ...(packets() ?? []).slice(0, 60).map(packet => hex(packet.hex))]
  for (const bytes of samples) {
    for (let length = 0; length < Math.min(bytes.length, 600); length++) decodeDns(bytes.subarray(0, length))
    for (let at = 0; at < Math.min(bytes.length, 300); at++) {
      const changed = Uint8Array.from(bytes)
      changed[at] = (changed[at] ?? 0) ^ 0xff
      decodeDns(changed)
      encodeDnsAnswer({ query: changed, rcode: 1, isAuthoritative: false, answers: [], authorities: [] })
    }
  }
  fc.assert(fc.property(fc.uint8Array({ maxLength: 600 }), bytes => void decodeDns(bytes)))
  t.diagnostic(`${samples.length} samples`)
})

test('an answer that would not fit into 512 bytes says so and has no records', () => {
  const query = hex('0007 0100 0001 0000 0000 0000 00 0001 0001')
  const record = { name: 'a.hop', type: 16, class: 1, ttl: 1, data: new Uint8Array(300) }
  const whole = encodeDnsAnswer({ query, rcode: 0, isAuthoritative: true, answers: [record], authorities: [] })
  assert.equal(decodeDns(whole)?.answers.length, 1)
  const cut = encodeDnsAnswer({ query, rcode: 0, isAuthoritative: true, answers: [record, record], authorities: [] })
  assert.equal(decodeDns(cut)?.answers.length, 0)
  assert.equal((cut[2] ?? 0) & 2, 2)
})

test('our own names are checked before they are written', () => {
  assert.deepEqual(Buffer.from(encodeDnsName('a.hop')).toString('hex'), '016103686f7000')
  for (const name of ['a..b', '.', `${'x'.repeat(64)}.hop`, 'a b']) assert.throws(() => encodeDnsName(name), RangeError)
})
