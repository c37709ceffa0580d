import assert from 'node:assert/strict'
import test from 'node:test'
import { parseTcp, parseUdp } from './iperf3.ts'

const TCP = {
  start: { version: 'iperf 3.12' },
  intervals: [{ sum: { bytes: 1_000, omitted: true } }, { sum: { bytes: 2_000, omitted: false } }],
  end: { sum_sent: { bits_per_second: 17_000 }, sum_received: { bits_per_second: 16_000 } },
}

test('a TCP run gives what was received after the warm-up, and the bytes of the warm-up too', () => {
  assert.deepEqual(parseTcp(JSON.stringify(TCP)), { bitsPerSecond: 16_000, bytes: 3_000 })
})

test('a UDP run gives packets sent and lost', () => {
  const report = { end: { sum: { packets: 5_000, lost_packets: 12, seconds: 1.5, lost_percent: 0.24 } } }
  assert.deepEqual(parseUdp(JSON.stringify(report)), { sentPackets: 5_000, lostPackets: 12, seconds: 1.5 })
})

test('what iperf3 calls an error is told in its own words', () => {
  const text = JSON.stringify({ start: {}, intervals: [], end: {}, error: 'unable to connect to server' })
  assert.deepEqual(parseTcp(text), { error: 'unable to connect to server' })
  assert.deepEqual(parseUdp(text), { error: 'unable to connect to server' })
})

test('a report that is cut short or of another shape is an error and does not throw', () => {
  const text = JSON.stringify(TCP)
  for (let length = 0; length < text.length; length++) assert.ok('error' in parseTcp(text.slice(0, length)))
  const others = ['null', '[]', '3', '{"end":null}', '{"end":{"sum_received":{}}}', '{"intervals":7,"end":{"sum":{}}}']
  for (const other of others) assert.ok('error' in parseTcp(other) && 'error' in parseUdp(other), other)
})
