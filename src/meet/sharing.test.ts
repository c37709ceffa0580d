import assert from 'node:assert/strict'
import test from 'node:test'
import { encodeSharing, type Shared } from '#wire/device-sharing.ts'
import { NO_SHARING, Sharing } from './sharing.ts'

const NOW = 1_800_000_000_000
const LAN = { address: '192.168.1.0', prefix: 24 }
const shared = (name: string, more: Partial<Shared> = {}): Shared => {
  return { name, networks: [], internet4: false, internet6: false, ...more }
}

/** Two devices, each of which knows the other by one letter. */
function two(): { tower: Sharing; laptop: Sharing } {
  const [tower, laptop] = [new Sharing(NO_SHARING), new Sharing(NO_SHARING)]
  tower.update(new Map([['l', shared('tower')]]), NOW)
  laptop.update(new Map([['t', shared('laptop')]]), NOW)
  return { tower, laptop }
}

/** Carries what both say until nobody speaks; gives how many messages that took. */
function carry(tower: Sharing, laptop: Sharing, now: number): number {
  for (let count = 0; ; ) {
    const said = [tower.take().get('l'), laptop.take().get('t')] as const
    if (said[0] === undefined && said[1] === undefined) return count
    if (said[0] !== undefined) assert.equal(laptop.handle('t', said[0], now), true)
    if (said[1] !== undefined) assert.equal(tower.handle('l', said[1], now), true)
    count += said.filter(each => each !== undefined).length
    assert.ok(count < 10, 'they go on for ever')
  }
}

test('devices that offer nothing and keep their names say nothing', () => {
  const { tower, laptop } = two()
  assert.equal(carry(tower, laptop, NOW), 0)
  assert.equal(tower.deadline(), Number.POSITIVE_INFINITY)
})

test('an offer is told, heard and answered once; accepting it is for the other side', () => {
  const { tower, laptop } = two()
  tower.update(new Map([['l', shared('tower', { networks: [LAN], internet4: true })]]), NOW)
  assert.equal(laptop.accept('t', '192.168.1.0/24'), false)
  assert.equal(carry(tower, laptop, NOW), 2)
  assert.equal(tower.deadline(), Number.POSITIVE_INFINITY)
  assert.deepEqual(laptop.offered('t'), ['192.168.1.0/24', 'internet'])
  assert.deepEqual(laptop.accepted('t'), [])
  assert.equal(laptop.accept('t', '0.0.0.0/0'), false)
  assert.equal(laptop.accept('t', '192.168.1.0/24'), true)
  const again = new Sharing(laptop.state)
  assert.deepEqual(again.accepted('t'), ['192.168.1.0/24'])
  assert.deepEqual(again.offered('t'), ['192.168.1.0/24', 'internet'])
  assert.equal(again.decline('t', '192.168.1.0/24'), true)
  assert.equal(again.decline('t', '192.168.1.0/24'), false)
})

test('what is lost is said again, ever more rarely, and after a restart', () => {
  const { tower, laptop } = two()
  tower.update(new Map([['l', shared('tower', { networks: [LAN] })]]), NOW)
  assert.equal(tower.take().size, 1)
  tower.handleDeadline(NOW + 19_999)
  assert.equal(tower.take().size, 0)
  tower.handleDeadline(NOW + 20_000)
  assert.equal(tower.take().size, 1)
  assert.equal(tower.deadline(), NOW + 60_000)
  const again = new Sharing(tower.state)
  again.update(new Map([['l', shared('tower', { networks: [LAN] })]]), NOW + 70_000)
  assert.equal(carry(again, laptop, NOW + 70_000), 2)
  assert.deepEqual(laptop.offered('t'), ['192.168.1.0/24'])
})

test('both at once, an answer that is lost, and an old message that comes late all end in the newest', () => {
  const { tower, laptop } = two()
  tower.update(new Map([['l', shared('tower', { networks: [LAN] })]]), NOW)
  const old = tower.take().get('l') as Uint8Array
  laptop.update(new Map([['t', shared('portable')]]), NOW)
  tower.update(new Map([['l', shared('tower')]]), NOW)
  const newest = tower.take().get('l') as Uint8Array
  laptop.handle('t', newest, NOW)
  laptop.take()
  tower.handleDeadline(NOW + 20_000)
  laptop.handleDeadline(NOW + 20_000)
  carry(tower, laptop, NOW + 20_000)
  assert.equal(tower.heard('l')?.name, 'portable')
  laptop.handle('t', old, NOW)
  assert.deepEqual(laptop.offered('t'), [])
  assert.deepEqual([tower.deadline(), laptop.deadline()], [Number.POSITIVE_INFINITY, Number.POSITIVE_INFINITY])
})

test('an offer that is withdrawn stays accepted, and counts again when it comes back; a removed device is forgotten', () => {
  const { tower, laptop } = two()
  const tell = (more: Partial<Shared>, now: number) => {
    tower.update(new Map([['l', shared('tower', more)]]), now)
    carry(tower, laptop, now)
  }
  tell({ networks: [LAN] }, NOW)
  laptop.accept('t', '192.168.1.0/24')
  tell({}, NOW + 1)
  assert.deepEqual([laptop.offered('t'), laptop.accepted('t')], [[], ['192.168.1.0/24']])
  tell({ networks: [LAN] }, NOW + 2)
  assert.deepEqual(laptop.offered('t'), ['192.168.1.0/24'])
  laptop.update(new Map(), NOW + 3)
  assert.deepEqual(laptop.state.peers, [])
  assert.equal(laptop.handle('t', encodeSharing({ ...shared('x'), version: 9, heard: 0, asks: true }), NOW), false)
})

test('a device makes at most 16 offers, and the newest of one network counts', () => {
  const sharing = new Sharing(NO_SHARING)
  for (let i = 0; i < 16; i++) assert.equal(sharing.offer({ network: `10.${i}.0.0/16`, to: ['*'] }), true)
  assert.equal(sharing.offer({ network: '10.99.0.0/16', to: ['*'] }), false)
  assert.equal(sharing.offer({ network: '10.3.0.0/16', to: ['a'] }), true)
  assert.deepEqual(sharing.offers.at(-1), { network: '10.3.0.0/16', to: ['a'] })
  assert.equal(sharing.withdraw('10.3.0.0/16'), true)
  assert.equal(sharing.withdraw('10.3.0.0/16'), false)
})
