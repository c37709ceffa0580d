import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import type { Command } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { ExitPolicy } from '#stream/exit-policy.ts'
import { REFUSAL } from '#wire/control.ts'
import { type Config, defaultConfig } from '../config.ts'
import type { Fields } from '../log.ts'
import { Peer } from './peer.ts'

const MIB = 2 ** 20
const HOUR = 3_600_000
const SERVER = { host: '185.65.135.1', port: 51_820 }

/** A peer under a clock that the test turns, with the data plane's counters in its hands. */
function world(t: TestContext, limits: Partial<Config['peer']> = {}, lendsHops = false) {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-peer-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const file = path.join(stateDir, 'peer-usage.json')
  const clock = { now: 5_000, unix: new Date(2027, 0, 31, 12).getTime() }
  const said: string[] = []
  const write = (event: string, fields: Fields = {}) => {
    said.push(
      [event, ...Object.values(fields).map(value => (typeof value === 'object' ? value.text : value))].join(' '),
    )
  }
  const state = { ends: 0, own: ['198.41.0.4'] }
  const run = () => {
    const counters = new Counters()
    const commands: Command[] = []
    const peer = new Peer({
      limits: { ...defaultConfig().peer, volume_mib_per_day: 100, ...limits },
      stateDir,
      log: { error: write, warn: write, info: write, debug: write },
      makePolicy: () => new ExitPolicy({ rules: [{ action: 'allow' }], ownAddresses: state.own, allowPrivate: [] }),
      lendsHops,
      now: () => clock.now,
      unixNow: () => clock.unix,
      end: () => state.ends++,
    })
    t.after(() => peer.close())
    const pass = (ms: number) => {
      clock.now += ms
      clock.unix += ms
      peer.sample()
    }
    const start = () => peer.start({ counters, send: (...sent) => void commands.push(...sent) })
    return { peer, counters, commands, pass, start }
  }
  return { run, file, stateDir, clock, said, state }
}

test('limits that change hold at once: the data plane is told, and what is over ends lending', t => {
  const { run, state } = world(t, { rate_kbit: 8_000 })
  const { peer, counters, commands, pass, start } = run()
  start()
  counters.add('lentBytesIn', 20 * MIB)
  pass(1_000)
  peer.relimit({ ...defaultConfig().peer, rate_kbit: 80, volume_mib_per_day: 10, max_clients: 3 })
  assert.deepEqual(commands.at(-1), { kind: 'limitLent', bytesPerSecond: 10_000, hops: false })
  const { maxClients, closed, rateKbit } = peer.status()
  assert.deepEqual([maxClients, closed, rateKbit, state.ends], [3, 'volume', 80, 1])
  peer.relimit({ ...defaultConfig().peer, volume_mib_per_day: 100 })
  assert.equal(peer.status().closed, undefined)
})

test('the rate is told to the data plane at the start, in bytes', t => {
  const { commands, start } = world(t, { rate_kbit: 8_000 }).run()
  start()
  assert.deepEqual(commands, [{ kind: 'limitLent', bytesPerSecond: 1_000_000, hops: false }])
})

test('what is carried counts in both directions, and at the volume of the day everything ends, once', t => {
  const { run, state, said, file } = world(t)
  const { peer, counters, pass, start } = run()
  start()
  counters.add('lentBytesOut', 60 * MIB)
  counters.add('lentBytesIn', 39 * MIB)
  counters.add('bytesOut', 900 * MIB)
  pass(1_000)
  assert.equal(peer.status().bytesToday, 99 * MIB)
  assert.equal(state.ends, 0)
  counters.add('lentBytesIn', MIB)
  pass(1_000)
  pass(1_000)
  assert.equal(state.ends, 1)
  assert.equal(peer.status().closed, 'volume')
  assert.equal(peer.gate.admit({ session: 1, host: '198.51.100.1' }, 1, SERVER, 7_000), REFUSAL.tooMany)
  assert.match(readFileSync(file, 'utf8'), /"bytes":104857600/, 'it is kept at once')
  pass(12 * HOUR)
  assert.deepEqual([peer.status().closed, peer.status().bytesToday], [undefined, 0])
  assert.equal(peer.gate.admit({ session: 1, host: '198.51.100.1' }, 1, SERVER, 7_000 + 12 * HOUR), undefined)
  assert.deepEqual(said, ['lending nothing until later volume', 'lending again'])
})

test('a node that is a peer alone lends its flows to other hops too', t => {
  const { commands, start } = world(t, { rate_kbit: 8_000 }, true).run()
  start()
  assert.deepEqual(commands, [{ kind: 'limitLent', bytesPerSecond: 1_000_000, hops: true }])
})

test('the volume outlives a restart, and is new on a new day', t => {
  const { run, clock } = world(t)
  const first = run()
  first.start()
  first.counters.add('lentBytesOut', 100 * MIB)
  first.peer.close()
  const second = run()
  second.start()
  assert.deepEqual([second.peer.status().bytesToday, second.peer.status().closed], [100 * MIB, 'volume'])
  second.peer.close()
  clock.unix += 24 * HOUR
  const third = run()
  third.start()
  assert.deepEqual([third.peer.status().bytesToday, third.peer.status().closed], [0, undefined])
})

test('a crash loses at most a minute', t => {
  const { run } = world(t)
  const { counters, pass, start } = run()
  start()
  for (let second = 0; second < 130; second++) {
    counters.add('lentBytesOut', 1_000)
    pass(1_000)
  }
  const after = run()
  after.start()
  const lost = 130_000 - after.peer.status().bytesToday
  assert.ok(lost >= 0 && lost <= 60_000, `${lost} bytes`)
})

test('what does not change is not written again', t => {
  const { run, file } = world(t)
  const { counters, pass, start } = run()
  start()
  counters.add('lentBytesOut', 1_000)
  pass(60_000)
  rmSync(file)
  for (let minute = 0; minute < 5; minute++) pass(60_000)
  assert.equal(existsSync(file), false)
})

test('outside the hours nothing is lent, whatever is open ends, and it opens again by itself', t => {
  const { run, state, said } = world(t, { hours: '11-13' })
  const { peer, pass, start } = run()
  start()
  assert.equal(peer.status().closed, undefined)
  pass(HOUR - 1_000)
  assert.equal(state.ends, 0)
  pass(1_000)
  assert.deepEqual([state.ends, peer.status().closed], [1, 'hours'])
  pass(22 * HOUR)
  assert.deepEqual([state.ends, peer.status().closed], [1, undefined])
  assert.deepEqual(said, ['lending nothing until later hours', 'lending again'])
})

test('a clock that is set does not open what is closed by the volume of this day', t => {
  const { run, clock } = world(t)
  const { peer, counters, pass, start } = run()
  start()
  counters.add('lentBytesOut', 100 * MIB)
  pass(1_000)
  clock.unix -= HOUR
  pass(1_000)
  assert.equal(peer.status().closed, 'volume')
})

test('addresses that the machine gets while it runs are its own within a minute', t => {
  const { run, state, clock } = world(t)
  const { peer, pass, start } = run()
  start()
  assert.equal(
    peer.gate.admit({ session: 1, host: '198.51.100.1' }, 1, { host: '198.41.0.4', port: 51_820 }, clock.now),
    REFUSAL.notAllowed,
  )
  assert.equal(peer.gate.admit({ session: 1, host: '198.51.100.1' }, 1, SERVER, clock.now), undefined)
  state.own = ['198.41.0.4', SERVER.host]
  pass(60_000)
  assert.equal(peer.gate.admit({ session: 1, host: '198.51.100.1' }, 2, SERVER, clock.now), REFUSAL.notAllowed)
})

test('a damaged count is set aside and said so, and the day begins at nothing', t => {
  for (const content of ['', '{', 'null', '{"version":1,"day":"2027-01-31","bytes":-5}', '\u0000'.repeat(200)]) {
    const { run, file, stateDir, said } = world(t)
    writeFileSync(file, content, { mode: 0o600 })
    const { peer } = run()
    assert.equal(peer.status().bytesToday, 0)
    assert.deepEqual(readdirSync(stateDir), ['peer-usage.json.damaged-1'])
    assert.deepEqual(said, ['damaged state file set aside'])
  }
  const { run, file } = world(t)
  writeFileSync(file, 'x'.repeat(300), { mode: 0o600 })
  assert.throws(() => run(), { code: 'STATE_UNREADABLE' }, 'what is far too long was not written by us')
})

test('when the count cannot be written the peer goes on', t => {
  const { run, file, said } = world(t)
  const { peer, counters, pass, start } = run()
  start()
  counters.add('lentBytesOut', MIB)
  rmSync(path.dirname(file), { recursive: true })
  pass(60_000)
  writeFileSync(path.dirname(file), '')
  assert.equal(peer.status().bytesToday, MIB)
  assert.deepEqual(said, ['state file not written'])
})
