import assert from 'node:assert/strict'
import { test } from 'node:test'
import { REFUSAL } from '#wire/control.ts'
import { calendarAt, WireGuardGate, type WireGuardLimits } from './wireguard-gate.ts'

const HOUR = 3_600_000
const DAY = 24 * HOUR
/** A midnight. */
const START = Date.UTC(2027, 0, 31)
const LIMITS: WireGuardLimits = { maxClients: 3, maxFlowsPerClient: 2, bytesPerDay: 1_000 }

function start(limits: Partial<WireGuardLimits> = {}, now = START, carried?: { day: string; bytes: number }) {
  const gate = new WireGuardGate(
    { limits: { ...LIMITS, ...limits }, mayReach: ({ host }) => !host.startsWith('10.'), calendar: calendarAt(0) },
    now,
    carried,
  )
  let flow = 1
  const open = (session: number, now = START, host = '192.0.2.1', from = `198.51.100.${session & 255}`) =>
    gate.admit({ session, host: from }, flow++, { host, port: 51_820 }, now)
  return { gate, open }
}

test('clients and flows of a client are bounded, and what is released makes room', () => {
  const { gate, open } = start()
  assert.deepEqual([open(1), open(1), open(2), open(3)], [undefined, undefined, undefined, undefined])
  assert.equal(open(4), REFUSAL.tooMany, 'a fourth client')
  assert.equal(open(1), REFUSAL.tooMany, 'a third flow')
  assert.equal(open(2), undefined, 'who is in may open more')
  assert.deepEqual([gate.clients, gate.flows], [3, 5])
  gate.release(3, 4)
  assert.equal(gate.clients, 2)
  assert.equal(open(4), undefined)
  assert.deepEqual(
    [...gate.refused],
    [
      ['clients', 1],
      ['flowsOfClient', 1],
    ],
  )
})

test('one address has half of the places at most, an IPv6 one with its whole /64', () => {
  for (const [one, same, other] of [
    ['198.51.100.1', '198.51.100.1', '198.51.100.2'],
    ['2a00:1:2:3::1', '2a00:1:2:3:ffff::9', '2a00:1:2:4::1'],
  ] as const) {
    const { gate, open } = start({ maxClients: 4 })
    const from = (session: number, host: string) => open(session, START, '192.0.2.1', host)
    assert.deepEqual([from(1, one), from(2, same), from(3, same)], [undefined, undefined, REFUSAL.tooMany])
    assert.equal(gate.refused.get('clientsOfAddress'), 1)
    assert.equal(from(1, one), undefined, 'who is in may open more')
    assert.deepEqual([from(4, other), from(5, other), from(6, '203.0.113.1')], [undefined, undefined, REFUSAL.tooMany])
    gate.release(2, 2)
    assert.equal(from(3, one), undefined)
  }
  const { open } = start({ maxClients: 1 })
  assert.equal(open(1), undefined, 'a peer of one client has a place')
})

test('releasing what was never admitted, or twice, changes nothing', () => {
  const { gate, open } = start()
  open(1)
  open(1)
  gate.release(1, 99)
  gate.release(2, 1)
  assert.deepEqual([gate.clients, gate.flows], [1, 2])
  gate.release(1, 1)
  gate.release(1, 1)
  assert.deepEqual([gate.clients, gate.flows], [1, 1])
  assert.deepEqual(gate.all(), [{ session: 1, flow: 2 }])
  gate.release(1, 2)
  assert.deepEqual([gate.clients, gate.flows], [0, 0])
})

test('an address that may not be reached is refused before anything is counted', () => {
  const { gate, open } = start()
  for (let i = 0; i < 1_000; i++) assert.equal(open(1, START, '10.0.0.1'), REFUSAL.notAllowed)
  assert.equal(gate.refused.get('address'), 1_000)
  assert.equal(open(1), undefined, 'its opens of this minute are untouched')
})

test('a client opens twelve flows in a minute, whatever it closes, and others are not kept out by it', () => {
  const { gate, open } = start()
  for (let i = 1; i <= 12; i++) {
    assert.equal(open(1), undefined)
    gate.release(1, i)
  }
  assert.equal(open(1, START + 59_999), REFUSAL.tooMany)
  assert.equal(gate.refused.get('opens'), 1)
  assert.equal(open(2, START + 59_999), undefined)
  assert.equal(open(1, START + 60_000), undefined, 'a minute later')
})

test('all clients together cannot make a peer knock at one server, or at many, without end', () => {
  const limits = { maxClients: 1_000, maxFlowsPerClient: 8 }
  const one = start(limits)
  const admitted = Array.from({ length: 500 }, (_, i) => one.open(i)).filter(refusal => refusal === undefined)
  assert.equal(admitted.length, 120)
  const many = start(limits)
  let opened = 0
  for (let i = 0; i < 10_000; i++) if (many.open(i % 1_000, START, `192.0.${i >> 8}.${i & 255}`) === undefined) opened++
  assert.equal(opened, 4_096)
  const few = start({ maxClients: 3 })
  opened = 0
  for (let i = 0; i < 1_000; i++) {
    if (few.open(i, START, `192.0.2.${i & 255}`) === undefined) opened++
    few.gate.release(i, i + 1)
  }
  assert.equal(opened, 36, 'a peer of three clients: new sessions do not bring new room')
})

test('no server has more than 256 flows', () => {
  const { gate, open } = start({ maxClients: 1_000 })
  let opened = 0
  for (let i = 0; i < 1_000; i++) if (open(i, START + Math.floor(i / 100) * 60_000) === undefined) opened++
  assert.equal(opened, 256)
  assert.equal(gate.refused.get('flowsOfServer'), 744)
})

test('when the volume of a day is carried nothing more is, until the next', () => {
  const { gate, open } = start()
  gate.handleCarried(999, START + HOUR)
  assert.equal(gate.closed(START + HOUR), undefined)
  assert.equal(open(1, START + HOUR), undefined)
  gate.handleCarried(1, START + 2 * HOUR)
  assert.equal(gate.closed(START + 2 * HOUR), 'volume')
  assert.equal(open(2, START + 2 * HOUR), REFUSAL.tooMany)
  assert.equal(gate.refused.get('volume'), 1)
  assert.equal(gate.closed(START + DAY - 1), 'volume')
  assert.equal(gate.closed(START + DAY), undefined, 'before anything of the new day was counted')
  gate.handleCarried(10, START + DAY)
  assert.deepEqual(gate.carried, { day: '2027-02-01', bytes: 10 })
})

test('what an earlier run carried counts if it was today', () => {
  const today = start({}, START, { day: '2027-01-31', bytes: 1_000 })
  assert.equal(today.gate.closed(START), 'volume')
  const yesterday = start({}, START, { day: '2027-01-30', bytes: 1_000 })
  assert.deepEqual(yesterday.gate.carried, { day: '2027-01-31', bytes: 0 })
  assert.equal(yesterday.gate.closed(START), undefined)
})

test('hours are from the first up to the last, and may go past midnight', () => {
  const openHours = (from: number, to: number) => {
    const { gate } = start({ hours: { from, to } })
    return Array.from({ length: 24 }, (_, hour) => hour).filter(hour => gate.closed(START + hour * HOUR) === undefined)
  }
  assert.deepEqual(openHours(8, 11), [8, 9, 10])
  assert.deepEqual(openHours(22, 2), [0, 1, 22, 23])
  assert.deepEqual(openHours(23, 24), [23])
  assert.equal(openHours(0, 24).length, 24)
  const { gate, open } = start({ hours: { from: 22, to: 6 } })
  assert.equal(gate.closed(START + 6 * HOUR - 1), undefined)
  assert.equal(gate.closed(START + 6 * HOUR), 'hours')
  assert.equal(open(1, START + 7 * HOUR), REFUSAL.tooMany)
  assert.equal(open(1, START + 22 * HOUR), undefined)
  gate.handleCarried(1_000, START + 23 * HOUR)
  assert.equal(gate.closed(START + 23 * HOUR), 'volume', 'in the hours, but the volume is used')
  assert.equal(gate.closed(START + 25 * HOUR), undefined, 'past midnight there is a new one')
})

test('the calendar is that of the place', () => {
  assert.deepEqual(calendarAt(0)(START - 1), { hour: 23, day: '2027-01-30' })
  assert.deepEqual(calendarAt(HOUR)(START - 1), { hour: 0, day: '2027-01-31' })
  assert.deepEqual(calendarAt(-5 * HOUR)(START), { hour: 19, day: '2027-01-30' })
  assert.deepEqual(calendarAt(5.75 * HOUR)(START), { hour: 5, day: '2027-01-31' })
})

test('a flow to another hop is bounded like one to a server, without asking where it goes', () => {
  const { gate } = start({ maxClients: 1 })
  const address = { host: '10.0.0.1', port: 1 }
  assert.equal(gate.admitHop({ session: 1, host: '198.51.100.1' }, 1, address, START), undefined)
  assert.equal(gate.admitHop({ session: 2, host: '198.51.100.2' }, 1, address, START), REFUSAL.tooMany)
  gate.handleCarried(1_000, START)
  assert.equal(gate.admitHop({ session: 1, host: '198.51.100.1' }, 2, address, START), REFUSAL.tooMany)
  gate.release(1, 1)
  assert.equal(gate.flows, 0)
})

test('limits that change hold for who comes next, and end nobody who is there', () => {
  const { gate, open } = start()
  assert.deepEqual([open(1), open(2)], [undefined, undefined])
  gate.relimit({ ...LIMITS, maxClients: 1, bytesPerDay: 500 })
  assert.equal(open(3), REFUSAL.tooMany)
  assert.deepEqual([gate.clients, gate.closed(START)], [2, undefined])
  gate.handleCarried(600, START)
  assert.equal(gate.closed(START), 'volume')
  gate.relimit(LIMITS)
  assert.deepEqual([gate.closed(START), open(3)], [undefined, undefined])
})
