import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { type DeviceMessage, decodeDeviceMessage, MAX_DATA_BYTES } from '#wire/device-message.ts'
import { deviceAddresses } from './device-address.ts'
import { type DeviceEvent, Devices } from './devices.ts'
import { openLetter, sealLetter } from './letter.ts'
import { cardOf, newOwnDevice } from './own-device.ts'
import { readDevices, writeDevices } from './saved-devices.ts'

const NOW = 1_800_000_000_000
const random = seededRandom('devices')
const fresh = (name: string) => new Devices({ own: newOwnDevice(name, random), devices: [] }, random)

/** Carries letters between devices until nobody has anything to say; gives what each was told. */
function run(now: number, ...all: Devices[]): Map<Devices, DeviceEvent[]> {
  const events = new Map(all.map(one => [one, one.takeEvents()]))
  for (let rounds = 0; rounds < 20; rounds++) {
    const drafts = all.flatMap(one => one.take())
    if (drafts.length === 0) break
    for (const draft of drafts) {
      const letter = sealLetter(draft, 0, now + 60_000)
      assert.ok(letter)
      for (const one of all) {
        for (const { sealing, generation } of one.own.keys) {
          const content = openLetter(letter, sealing)
          if (content === undefined) continue
          one.handle(decodeDeviceMessage(content) as DeviceMessage, generation, now)
          events.get(one)?.push(...one.takeEvents())
        }
      }
    }
  }
  return events
}

function paired(now = NOW): { desk: Devices; laptop: Devices } {
  const [desk, laptop] = [fresh('desk'), fresh('laptop')]
  assert.deepEqual(desk.pair(cardOf(laptop.own), now), { name: 'laptop' })
  assert.deepEqual(laptop.pair(cardOf(desk.own), now), { name: 'desk' })
  run(now, desk, laptop)
  return { desk, laptop }
}

test('paired devices have names, addresses that both agree on, and one secret for their tunnel', () => {
  const { desk, laptop } = paired()
  const [seen] = desk.list()
  assert.equal(seen?.name, 'laptop')
  assert.deepEqual(seen?.addresses, laptop.addresses)
  assert.match(laptop.addresses.ipv6, /^fd68:6f70:6c69:/)
  assert.match(laptop.addresses.ipv4 ?? '', /^100\.(6[4-9]|[7-9]\d|1[01]\d|12[0-7])\.\d+\.\d+$/)
  assert.ok(seen?.tunnelSecret)
  assert.deepEqual(seen?.tunnelSecret, laptop.list()[0]?.tunnelSecret)
})

test('a device that calls itself something else is called so by the others, unless they chose a name or something hangs on it', () => {
  const { desk, laptop } = paired()
  const id = laptop.own.id
  const seen = () => [desk.list()[0]?.name, desk.list()[0]?.card.name]
  const never = () => false
  assert.equal(laptop.renameOwn('portable'), undefined)
  desk.follow(id, 'portable', never)
  assert.deepEqual(seen(), ['portable', 'portable'])
  desk.follow(id, 'desk', never)
  assert.deepEqual(seen(), ['desk-2', 'desk'], 'our own name is ours')
  desk.follow(id, 'laptop', never)
  desk.follow(id, 'tower', name => name === 'laptop')
  assert.deepEqual(seen(), ['laptop', 'tower'], 'a rule speaks of its name')
  desk.follow(id, 'laptop', never)
  desk.follow(id, 'admin', name => name === 'admin')
  assert.deepEqual(seen(), ['laptop', 'admin'], 'a rule speaks of the name it would like to have')
  desk.rename('laptop', 'mine')
  desk.follow(id, 'yours', never)
  assert.deepEqual(seen(), ['mine', 'yours'], 'chosen here')
  assert.equal(laptop.renameOwn('Bad Name'), 'badName')
  assert.equal(laptop.renameOwn('desk'), 'nameTaken')
})

test('of two with one name the second gets a number, whoever has the name; a name goes before an id that begins so', () => {
  const desk = new Devices({ own: newOwnDevice('desk', random), devices: [] }, random, name => name === 'pocket')
  const names = ['desk', 'pocket', 'laptop', 'laptop', 'laptop'].map(name => {
    return desk.pair(cardOf(fresh(name).own), NOW)
  })
  assert.deepEqual(
    names.map(each => 'name' in each && each.name),
    ['desk-2', 'pocket-2', 'laptop', 'laptop-2', 'laptop-3'],
  )
  const [first, second] = desk.list()
  assert.ok(first && second)
  assert.equal(desk.rename(second.name, first.id.slice(0, 8)), undefined)
  assert.equal(desk.find(first.id.slice(0, 8))?.id, second.id)
  assert.equal(desk.find(first.id)?.id, first.id)
  const twins = new Devices(desk.state, random)
  const { devices, own } = twins.state
  const [one, two] = devices
  assert.ok(one && two)
  const near = `${one.card.id.slice(0, 31)}${one.card.id.endsWith('0') ? '1' : '0'}`
  const doubled = [one, { ...two, card: { ...two.card, id: near } }]
  assert.equal(new Devices({ own, devices: doubled }, random).find(one.card.id.slice(0, 9)), undefined)
})

test('data goes to one device and is told to it alone', () => {
  const { desk, laptop } = paired()
  const phone = fresh('phone')
  desk.pair(cardOf(phone.own), NOW)
  phone.pair(cardOf(desk.own), NOW)
  run(NOW, desk, laptop, phone)
  const data = random(MAX_DATA_BYTES)
  assert.ok(desk.send(laptop.own.id, data, NOW))
  const events = run(NOW, desk, laptop, phone)
  const told = events.get(laptop)?.find(event => event.kind === 'data')
  assert.deepEqual(told?.kind === 'data' && Buffer.from(told.data), Buffer.from(data))
  assert.deepEqual(events.get(phone), [])
  assert.equal(desk.send('00'.repeat(16), data, NOW), false)
})

test('names are free ones, and a device is found by name or by the beginning of its id', () => {
  const { desk, laptop } = paired()
  const other = fresh('laptop')
  assert.deepEqual(desk.pair(cardOf(other.own), NOW), { name: 'laptop-2' })
  assert.deepEqual(desk.pair(cardOf(fresh('desk').own), NOW), { name: 'desk-2' }, 'its own name is taken too')
  assert.equal(desk.find('laptop')?.id, laptop.own.id)
  assert.equal(desk.find(other.own.id.slice(0, 8))?.name, 'laptop-2')
  assert.equal(desk.rename('laptop', 'Laptop'), 'badName')
  assert.equal(desk.rename('laptop', 'laptop-2'), 'nameTaken')
  assert.equal(desk.rename('nobody', 'x'), 'unknown')
  assert.equal(desk.rename('laptop', 'work'), undefined)
  assert.equal(desk.find('work')?.id, laptop.own.id)
})

test('who is removed is out at once, and is told', () => {
  const { desk, laptop } = paired()
  const id = laptop.own.id
  assert.equal(desk.remove('laptop', NOW), id)
  assert.deepEqual(desk.list(), [])
  const drafts = desk.take()
  assert.ok(laptop.send(desk.own.id, Buffer.from('still there?'), NOW))
  const [late] = laptop.take()
  const message = late && decodeDeviceMessage(late.content)
  assert.ok(message)
  assert.equal(desk.handle(message, 1, NOW), 'unknownDevice')
  for (const { content } of drafts) laptop.handle(decodeDeviceMessage(content) as DeviceMessage, 1, NOW)
  assert.deepEqual(laptop.list(), [])
  assert.equal(laptop.takeEvents().at(-1)?.kind, 'removed')
})

test('keys rotate: those who are there learn the new ones at once, a sleeper when it writes to the old', () => {
  const { desk, laptop } = paired()
  const phone = fresh('phone')
  desk.pair(cardOf(phone.own), NOW)
  phone.pair(cardOf(desk.own), NOW)
  run(NOW, desk, laptop, phone)
  desk.rotate(NOW + 1)
  run(NOW + 1, desk, laptop)
  assert.equal(laptop.find('desk')?.card.generation, 2)
  assert.deepEqual(laptop.find('desk')?.addresses, desk.addresses, 'addresses stay')
  assert.equal(phone.find('desk')?.card.generation, 1)
  const later = NOW + 3_600_000
  phone.send(desk.own.id, Buffer.from('I slept'), later)
  const told = run(later, desk, phone).get(desk)
  assert.ok(told?.some(event => event.kind === 'data'))
  assert.equal(phone.find('desk')?.card.generation, 2)
})

test('a card that is no device, ourselves or an impostor with a known id is not taken', () => {
  const { desk, laptop } = paired()
  assert.deepEqual(desk.pair(cardOf(desk.own), NOW), { problem: 'itself' })
  const impostor = { ...cardOf(newOwnDevice('laptop', random)), id: laptop.own.id }
  assert.deepEqual(desk.pair(impostor, NOW), { problem: 'idTaken' })
  const lowOrder = { ...cardOf(newOwnDevice('x', random)), identityKey: new Uint8Array(32) }
  assert.deepEqual(desk.pair(lowOrder, NOW), { problem: 'unusableKeys' })
  assert.deepEqual(desk.pair(cardOf(laptop.own), NOW), { name: 'laptop' }, 'the same device may pair again')
  for (let i = 1; i < 64; i++) assert.ok('name' in desk.pair(cardOf(newOwnDevice(`d${i}`, random)), NOW))
  assert.deepEqual(desk.pair(cardOf(newOwnDevice('last', random)), NOW), { problem: 'full' })
})

test('what is written down is read again and goes on; a damaged file is known as one', () => {
  const { desk, laptop } = paired()
  const text = writeDevices(desk.state)
  const state = readDevices(text)
  assert.ok(state)
  const restored = new Devices(state, random)
  restored.send(laptop.own.id, Buffer.from('after a restart'), NOW)
  const events = run(NOW, restored, laptop).get(laptop)
  assert.ok(events?.some(event => event.kind === 'data'))
  assert.ok(!events?.some(event => event.kind === 'reset'))
  for (let length = 0; length < text.length; length += 97) assert.equal(readDevices(text.slice(0, length)), undefined)
  assert.equal(readDevices(text.replace('"generation":1', '"generation":2')), undefined)
})

test('two devices whose IPv4 addresses meet: the first keeps it, the other is reached by IPv6', () => {
  const seen = new Map<string, string>()
  for (let i = 0; ; i++) {
    const id = random(16)
    const hex = Buffer.from(id).toString('hex')
    const { ipv4 = '' } = deviceAddresses([hex]).get(hex) ?? {}
    const other = seen.get(ipv4)
    seen.set(ipv4, hex)
    if (other === undefined) continue
    const both = deviceAddresses([other, hex])
    assert.equal(both.get(other)?.ipv4, ipv4)
    assert.equal(both.get(hex)?.ipv4, undefined)
    assert.notEqual(both.get(other)?.ipv6, both.get(hex)?.ipv6)
    return
  }
})
