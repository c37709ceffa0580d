import assert from 'node:assert/strict'
import test from 'node:test'
import type { PeerStatus } from '#api/table.ts'
import { describePeer, peerStatement } from './peer-words.ts'

const IDLE: PeerStatus = {
  ...{ clients: 0, maxClients: 16, flows: 0, bytesOut: 0, bytesIn: 0, bytesToday: 0 },
  ...{ bytesPerDay: 10 * 2 ** 30, rateKbit: 20_000, hours: '', refused: {} },
}

test('the statement says what one relays, sees, is blamed for, and the limits, in lines that a terminal holds', () => {
  const text = peerStatement(IDLE)
  for (const said of ['You relay', 'You see', 'Others see', 'Blame', 'Never reached', 'Limits'])
    assert.match(text, new RegExp(`^ {2}${said}`, 'm'))
  assert.ok(text.includes('20 Mbit/s, 10 GiB a day, 16 clients at once, at all hours.'))
  const most = { rateKbit: 4_294_967_295, bytesPerDay: 4_294_967_295 * 2 ** 20, maxClients: 100_000, hours: '22-6' }
  assert.ok(peerStatement(most).includes('100000 clients at once, from 22 to 6 o’clock.'))
  assert.ok(
    peerStatement({ ...IDLE, rateKbit: 64, maxClients: 1 }).includes('0.064 Mbit/s, 10 GiB a day, 1 client at once'),
  )
  for (const line of text.split('\n')) assert.ok(line.length <= 80, line)
})

test('one line says what a peer does now', () => {
  assert.equal(describePeer(IDLE), '0 of 16 clients, 0 flows, 0 B out, 0 B in, today 0 B of 10 GiB')
  const busy = { ...IDLE, clients: 3, flows: 4, bytesOut: 1_023, bytesIn: 5.25 * 2 ** 20, bytesToday: 2 ** 31 }
  assert.equal(
    describePeer({ ...busy, closed: 'volume', refused: { volume: 7, address: 1 } }),
    '3 of 16 clients, 4 flows, 1023 B out, 5.3 MiB in, today 2 GiB of 10 GiB, closed until midnight, refused: volume used 7, address not allowed 1',
  )
  assert.match(describePeer({ ...IDLE, hours: '22-6', closed: 'hours' }), /closed, open from 22 to 6 o’clock$/)
})
