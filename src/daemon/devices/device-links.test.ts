import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import type { Device } from '#meet/devices.ts'
import { cardOf, newOwnDevice } from '#meet/own-device.ts'
import type { MeshEvent, MeshOrder } from '#platform/paths/mesh-engine.ts'
import type { Address } from '#wire/address.ts'
import { decodeDeviceSignal, encodeDeviceSignal, type MeetingPlace } from '#wire/device-signal.ts'
import { type Config, parseConfig } from '../config.ts'
import type { DeviceMeetings } from './device-link.ts'
import { DeviceLinks } from './device-links.ts'

const OFFER = Uint8Array.of(1, 2, 3)
const SELF = newOwnDevice('self', seededRandom('self'))
const silent = () => undefined
const LOG = { error: silent, warn: silent, info: silent, debug: silent }

function other(name: string): Device {
  const own = newOwnDevice(name, seededRandom(name))
  return {
    ...{ id: own.id, name, pairedMs: 0, card: cardOf(own), isConfirmed: true },
    addresses: { ipv6: `fd68::${name.length}`, ipv4: undefined },
    tunnelSecret: new Uint8Array(32).fill(1),
  }
}

function links(t: TestContext, toml = '', meetings?: DeviceMeetings, allow?: () => Config['meet']['allow']) {
  t.mock.timers.enable({ apis: ['setTimeout', 'Date'], now: 1_700_000_000_000 })
  const orders: MeshOrder[] = []
  const said: { readonly id: string; readonly data: Uint8Array }[] = []
  let tell: (event: MeshEvent) => void = silent
  let isClosed = false
  let servers: Address[] = []
  const asked: number[] = []
  const made = new DeviceLinks({
    config: parseConfig(toml, 'test'),
    log: LOG,
    say: (id, data) => said.push({ id, data }),
    stunServers: () => servers,
    ...(meetings && { meetings }),
    ...(allow && { allow }),
    start: ({ stunServers }, onEvent) => {
      asked.push(stunServers.length)
      tell = onEvent
      return {
        send: order => orders.push(order),
        openNames: async () => ({ places: [], isTold: false }),
        close: async () => void (isClosed = true),
      }
    },
  })
  const update = (...devices: Device[]) => made.update(SELF, { ipv6: 'fd68::1', ipv4: undefined }, devices)
  return {
    made,
    orders,
    said,
    update,
    tell: (event: MeshEvent) => tell(event),
    isClosed: () => isClosed,
    asked,
    know: (list: Address[]) => (servers = list),
  }
}

const kinds = (orders: readonly MeshOrder[]) => orders.map(({ kind }) => kind)
const signal = (begunMs: number, heardMs = 0) => encodeDeviceSignal({ begunMs, heardMs, offer: OFFER })

test('tunnels begin with the first device that has spoken, and are told only what changed', t => {
  const { orders, update } = links(t)
  const laptop = other('laptop')
  update({ ...laptop, tunnelSecret: undefined })
  assert.equal(orders.length, 0)
  update(laptop)
  update(laptop)
  assert.deepEqual(kinds(orders), ['peers'])
  update()
  const last = orders.at(-1)
  assert.deepEqual(last?.kind === 'peers' && last.peers, [])
})

test('rules are those of the device by its name, and of all', t => {
  const rule = (device: string, port: number) =>
    `{ device = "${device}", protocol = "tcp", from_port = ${port}, to_port = ${port} }`
  const { orders, update } = links(t, `[meet]\nallow = [${rule('laptop', 22)}, ${rule('*', 80)}, ${rule('tower', 1)}]`)
  update(other('laptop'))
  const [order] = orders
  assert.ok(order?.kind === 'peers')
  assert.deepEqual(
    order.peers[0]?.rules.map(({ fromPort }) => fromPort),
    [22, 80],
  )
})

test('rules of the configuration that change hold at once', t => {
  let rules: Config['meet']['allow'] = []
  const { orders, update } = links(t, '', undefined, () => rules)
  update(other('laptop'))
  rules = [{ device: 'laptop', protocol: 'tcp', from_port: 22, to_port: 23 }]
  update(other('laptop'))
  const last = orders.at(-1)
  assert.ok(last?.kind === 'peers')
  assert.deepEqual(last.peers[0]?.rules, [{ protocol: 'tcp', fromPort: 22, toPort: 23 }])
})

test('a port is opened for a while, to one device or to all, and closed again by itself', t => {
  const { made, orders, update } = links(t)
  const laptop = other('laptop')
  update(laptop)
  const open = () => {
    update(laptop)
    const order = orders.findLast(({ kind }) => kind === 'peers')
    return order?.kind === 'peers' ? order.peers[0]?.rules.map(({ protocol, toPort }) => `${protocol} ${toPort}`) : []
  }
  assert.equal(made.allow('*', 7_000, 60_000), true)
  assert.equal(made.allow(other('tower').id, 8_000, 60_000), true)
  assert.deepEqual(open(), ['tcp 7000', 'udp 7000'])
  t.mock.timers.tick(60_000)
  assert.deepEqual(open(), [])
  const opened = Array.from({ length: 70 }, (_, i) => made.allow('*', 1 + i, 60_000)).filter(Boolean).length
  assert.equal(opened, 64)
})

test('an offer goes by letter, and again ever more rarely, until there is a path', t => {
  const { said, tell, update } = links(t)
  update(other('laptop'))
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  assert.deepEqual(decodeDeviceSignal(said[0]?.data ?? OFFER)?.offer, OFFER)
  t.mock.timers.tick(20_000)
  t.mock.timers.tick(39_999)
  assert.equal(said.length, 2)
  t.mock.timers.tick(1)
  assert.equal(said.length, 3)
  tell({ kind: 'path', peer: 1, path: { kind: 'direct', to: { host: '192.0.2.1', port: 1 } } })
  t.mock.timers.tick(3_600_000)
  assert.equal(said.length, 3)
  tell({ kind: 'path', peer: 1, path: undefined })
  assert.equal(said.length, 4)
})

test('a program that began anew is told everything anew, and what it said before counts no more', t => {
  const { made, orders, update } = links(t)
  const laptop = other('laptop')
  update(laptop)
  made.handle(laptop.id, signal(1_000))
  made.handle(laptop.id, signal(1_000))
  made.handle(laptop.id, signal(2_000))
  made.handle(laptop.id, signal(1_000))
  assert.deepEqual(kinds(orders), ['peers', 'restart', 'offer', 'offer', 'restart', 'offer'])
  assert.deepEqual(
    orders.flatMap(order => (order.kind === 'offer' ? order.epoch : [])),
    [1, 1, 2],
  )
})

test('who heard us already needs nothing anew; another run of it does, which may have heard us first, and with an earlier clock', t => {
  const { made, orders, said, tell, update } = links(t)
  const laptop = other('laptop')
  update(laptop)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  const { begunMs = 0 } = decodeDeviceSignal(said[0]?.data ?? OFFER) ?? {}
  made.handle(laptop.id, signal(2_000, begunMs))
  made.handle(laptop.id, signal(1_000, begunMs))
  assert.deepEqual(kinds(orders), ['peers', 'offer', 'restart', 'offer'])
})

test('tunnels that began before a server was known begin anew once, and say so to the others', async t => {
  const { made, said, tell, update, know, asked } = links(t)
  update(other('laptop'))
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  await made.handleServersKnown()
  t.mock.timers.tick(1)
  know([{ host: '192.0.2.1', port: 51_821 }])
  await made.handleServersKnown()
  await made.handleServersKnown()
  assert.deepEqual(asked, [0, 1])
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  const [first = 0, second = 0] = said.map(({ data }) => decodeDeviceSignal(data)?.begunMs ?? 0)
  assert.ok(second > first)
})

test('what strangers say, and garbage, changes nothing', t => {
  const { made, orders, update } = links(t)
  const laptop = other('laptop')
  update(laptop)
  made.handle('0'.repeat(32), signal(1_000))
  const whole = signal(1_000)
  for (let length = 0; length <= 17; length++) made.handle(laptop.id, whole.subarray(0, length))
  assert.deepEqual(kinds(orders), ['peers'])
})

test('an echo without tunnels is answered at once, and closing ends them', async t => {
  const { made, update, isClosed } = links(t)
  assert.deepEqual(await made.ping('0'.repeat(32)), { path: undefined, rttMs: undefined })
  update(other('laptop'))
  await made.close()
  assert.equal(isClosed(), true)
})

/** Relays by their first letter; everything that is asked of them. */
function relays(known: string) {
  const asked: (MeetingPlace | 'closed')[] = []
  let next = 0
  const meetings: DeviceMeetings = {
    pick: () => known[next++ % Math.max(known.length, 1)]?.repeat(64),
    open: (_peer, place) => asked.push(place) > 0,
    close: () => void asked.push('closed'),
  }
  return { asked, meetings, know: (more: string) => (known = more) }
}

const ADDRESS: Address = { host: '127.0.0.1', port: 9 }
const RELAY: Address = { host: '192.0.2.1', port: 9 }
/** Devices whose ids come after ours, and before. */
const NAMES = ['a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j']
const LATER = NAMES.map(other).find(({ id }) => SELF.id < id) as Device
const EARLIER = NAMES.map(other).find(({ id }) => id < SELF.id) as Device

test('one of two chooses where to meet and tells it with its offer, and the tunnels get the socket of the flow', t => {
  const { asked, meetings } = relays('ab')
  const { made, orders, said, tell, update } = links(t, '', meetings)
  update(LATER)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  const [place] = asked
  assert.ok(place !== undefined && place !== 'closed')
  const told = decodeDeviceSignal(said[0]?.data ?? OFFER)?.meeting
  assert.equal(told?.relay, place.relay)
  assert.equal(Buffer.compare(told?.token ?? OFFER, place.token), 0)
  made.handleMeeting({ kind: 'open', peer: 1, address: ADDRESS, relay: RELAY })
  const meeting = { address: ADDRESS, relay: RELAY, isControlling: true, token: place.token }
  assert.deepEqual(orders.at(-1), { kind: 'meeting', peer: 1, meeting })
  made.handleMeeting({ kind: 'closed', peer: 1 })
  assert.deepEqual(orders.at(-1), { kind: 'endMeeting', peer: 1 })
})

test('where it does not work another relay and another token are chosen; so it is when the way is lost', t => {
  const { asked, meetings } = relays('ab')
  const { made, tell, update } = links(t, '', meetings)
  update(LATER)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  made.handleMeeting({ kind: 'lost', peer: 1 })
  t.mock.timers.tick(20_000)
  tell({ kind: 'path', peer: 1, path: { kind: 'relayed', to: RELAY } })
  t.mock.timers.tick(600_000)
  tell({ kind: 'path', peer: 1, path: undefined })
  const places = asked.filter(each => each !== 'closed')
  assert.deepEqual(
    places.map(({ relay }) => relay[0]),
    ['a', 'b', 'a'],
  )
  assert.equal(new Set(places.map(({ token }) => Buffer.from(token).toString('hex'))).size, 3)
})

test('the other goes where it is told, once, and not to a relay of its own choice', t => {
  const { asked, meetings } = relays('a')
  const { made, said, tell, update } = links(t, '', meetings)
  update(EARLIER)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  assert.equal(decodeDeviceSignal(said[0]?.data ?? OFFER)?.meeting, undefined)
  const place = { relay: 'c'.repeat(64), token: new Uint8Array(32).fill(3) }
  const told = encodeDeviceSignal({ begunMs: 1_000, heardMs: 0, meeting: place, offer: OFFER })
  made.handle(EARLIER.id, told)
  made.handle(EARLIER.id, told)
  assert.deepEqual(asked, [place])
  const next = { ...place, token: new Uint8Array(32).fill(4) }
  made.handle(EARLIER.id, encodeDeviceSignal({ begunMs: 1_000, heardMs: 0, meeting: next, offer: OFFER }))
  assert.deepEqual(asked, [place, 'closed', next])
})

test('a device that is removed is met no more, and who begins anew is met anew', t => {
  const { asked, meetings } = relays('a')
  const { made, tell, update } = links(t, '', meetings)
  update(LATER)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  made.handle(LATER.id, signal(1_000))
  assert.notEqual(asked.at(-1), 'closed', 'whom we hear for the first time has not been there yet')
  made.handle(LATER.id, signal(2_000))
  assert.equal(asked.at(-1), 'closed')
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  assert.notEqual(asked.at(-1), 'closed')
  update()
  assert.equal(asked.at(-1), 'closed')
})

test('the relay is spoken to before it is known what to say, and what is said names it', t => {
  const { asked, meetings } = relays('a')
  const { said, tell, update } = links(t, '', meetings)
  update(LATER)
  assert.equal(asked.length, 1)
  assert.equal(said.length, 0)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  assert.equal(asked.length, 1, 'that one, and no other')
  const [place] = asked
  assert.ok(place !== 'closed' && place !== undefined)
  const told = decodeDeviceSignal(said[0]?.data ?? OFFER)?.meeting
  assert.deepEqual([told?.relay, Buffer.from(told?.token ?? [])], [place.relay, Buffer.from(place.token)])
})

test('tunnels start when a device is about to be paired, once it is known whom to ask for our address', async t => {
  const { made, orders, asked, know, update } = links(t, '[network]\nbootstrap = ["/ip4/192.0.2.1/tcp/1/p2p/id"]')
  made.prepare(SELF, { ipv6: 'fd68::1', ipv4: undefined })
  assert.deepEqual(asked, [], 'nobody to ask yet')
  know([{ host: '192.0.2.1', port: 51_821 }])
  await made.handleServersKnown()
  assert.deepEqual(asked, [1])
  update()
  update(other('laptop'))
  assert.deepEqual(asked, [1], 'once')
  assert.deepEqual(kinds(orders), ['peers', 'peers'])
})

test('where there will be nobody to ask, they start at once', t => {
  const { made, asked } = links(t)
  made.prepare(SELF, { ipv6: 'fd68::1', ipv4: undefined })
  assert.deepEqual(asked, [0])
})

test('relays that are known late are met at as soon as they are', async t => {
  const { asked, meetings, know } = relays('')
  const { made, said, tell, update } = links(t, '', meetings)
  update(LATER)
  tell({ kind: 'offer', peer: 1, offer: OFFER })
  await made.handleServersKnown()
  assert.deepEqual([asked.length, said.length], [0, 1])
  know('a')
  await made.handleServersKnown()
  assert.deepEqual([asked.length, said.length], [1, 2])
})
