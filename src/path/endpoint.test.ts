// What a peer, or anybody on the way, can make a node do: only the wire is seen, and the peer is played by hand.

import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { PathOffer } from '#wire/path-offer.ts'
import {
  type DecodedStun,
  decodeStun,
  STUN_ATTRIBUTE,
  type StunAttribute,
  stunAttribute,
  u32Value,
} from '#wire/stun.ts'
import { errorValue, readErrorCode, readXorAddress } from '#wire/stun-value.ts'
import { candidatePriority } from './base.ts'
import { type CheckFields, checkAnswer, checkRequest } from './check-message.ts'
import { Endpoint } from './endpoint.ts'
import type { PathCommand } from './ground.ts'
import { ofStranger } from './stranger-offer.ts'
import { iceKey, iceText, type StunKey, sealStun } from './stun-auth.ts'

const LOCAL = 0
const PEER = 1
const OURS: Address = { host: '203.0.113.1', port: 41_000 }
const THEIRS: Address = { host: '192.0.2.1', port: 42_000 }
const VICTIM = '198.51.100.66'

type Sent = Extract<PathCommand, { kind: 'send' }>

/** The endpoint under test, and a peer that has its password and says what it likes. */
class World {
  now = 0
  readonly random = seededRandom('endpoint')
  readonly endpoint: Endpoint
  readonly commands: PathCommand[] = []
  readonly sent: Sent[] = []
  readonly ufrag = this.random(6)
  readonly password = this.random(18)
  offer: PathOffer | undefined
  #revision = 0

  constructor({ isControlling = true, meetsStrangers = false } = {}) {
    this.endpoint = new Endpoint({ random: this.random, stunServers: [], turnServers: [], meetsStrangers })
    this.endpoint.addSocket({ local: LOCAL, family: 4, port: OURS.port, hosts: [OURS.host] }, 0)
    this.endpoint.connect(PEER, isControlling, 0)
    this.run(200)
    assert.ok(this.offer !== undefined, 'the endpoint says where it is')
  }

  /** Lets time pass; `answers` may answer what is sent. */
  run(forMs: number, answers: (sent: Sent) => void = () => undefined): void {
    const end = this.now + forMs
    for (;;) {
      for (const command of this.endpoint.take()) {
        this.commands.push(command)
        if (command.kind === 'offer') this.offer = command.offer
        if (command.kind !== 'send') continue
        this.sent.push(command)
        answers(command)
      }
      const due = this.endpoint.deadline()
      if (due > end) break
      this.now = Math.max(this.now, due)
      this.endpoint.handleDeadline(this.now)
    }
    this.now = end
  }

  /** The peer says that it is at these addresses. */
  tell(...addresses: readonly Address[]): void {
    this.tellPeer(PEER, addresses)
  }

  tellPeer(peer: number, addresses: readonly Address[], more: Partial<PathOffer> = {}): void {
    const candidates = addresses.map((address, i) => {
      return { kind: 'serverReflexive' as const, priority: candidatePriority('serverReflexive', 4, i), address }
    })
    const nat = { mapping: 'unknown' as const, lastPort: 0, step: 0 }
    const { ufrag, password } = this
    const offer = { generation: 1, revision: ++this.#revision, ufrag, password, nat, candidates, ...more }
    this.endpoint.handleOffer(peer, offer, this.now)
  }

  /** A check of the peer's. */
  check(fields: Partial<CheckFields> = {}, more: readonly StunAttribute[] = [], key = this.ourKey): Uint8Array {
    const { offer } = this
    assert.ok(offer !== undefined)
    const request = checkRequest(this.random(12), {
      username: `${iceText(offer.ufrag)}:${iceText(this.ufrag)}`,
      priority: 1_000,
      isControlling: false,
      tieBreaker: Buffer.alloc(8, 0x55),
      nomination: undefined,
      ...fields,
    })
    return sealStun({ ...request, attributes: [...request.attributes, ...more] }, key)
  }

  get ourKey(): StunKey {
    return iceKey(this.offer?.password ?? new Uint8Array(0))
  }

  hear(bytes: Uint8Array, from: Address = THEIRS): void {
    this.endpoint.handlePacket(bytes, from, LOCAL, this.now)
  }

  /** Answers a check as the peer would. */
  answer({ bytes }: Sent, from: Address = THEIRS, key = iceKey(this.password)): void {
    const request = decodeStun(bytes)
    if (request?.class === 'request') this.hear(sealStun(checkAnswer(request, OURS), key), from)
  }

  get path(): string {
    const path = this.endpoint.path(PEER, this.now)
    return path === undefined ? 'none' : `${path.kind} ${formatAddress(path.to)}`
  }

  /** Answers to checks of the peer's, since the last look. */
  replies(): DecodedStun[] {
    const messages = this.sent.splice(0).map(({ bytes }) => decodeStun(bytes))
    return messages.filter(message => message !== undefined).filter(message => message.class !== 'request')
  }

  /** Connects to the peer at its true address. */
  connect(): void {
    this.tell(THEIRS)
    this.run(2_000, sent => this.answer(sent, sent.to))
    assert.equal(this.path, `direct ${formatAddress(THEIRS)}`)
    this.sent.length = 0
  }
}

test('a check that proves the password is answered, with the address that it came from', () => {
  const world = new World()
  world.tell()
  world.hear(world.check())
  world.run(0)
  const [reply] = world.replies()
  assert.ok(reply?.class === 'success')
  assert.deepEqual(readXorAddress(stunAttribute(reply, STUN_ATTRIBUTE.xorMappedAddress), reply.transaction), THEIRS)
})

test('checks with a wrong password, for somebody else, or without integrity get no answer and cause nothing', () => {
  const world = new World()
  world.tell()
  world.hear(world.check({}, [], iceKey(Buffer.alloc(18))))
  world.hear(world.check({ username: 'nobody:me' }))
  world.hear(world.check({ username: '' }))
  const bare = checkRequest(world.random(12), {
    username: `${iceText(world.offer?.ufrag ?? new Uint8Array(0))}:x`,
    priority: 1,
    isControlling: false,
    tieBreaker: new Uint8Array(8),
    nomination: 1,
  })
  world.hear(sealStun(bare))
  world.run(60_000)
  assert.deepEqual(world.sent, [])
  assert.equal(world.path, 'none')
})

test('a peer that names strangers makes no more than 160 datagrams go to one, and a few a minute after that', () => {
  const world = new World()
  const strangers = Array.from({ length: 24 }, (_, i) => ({ host: VICTIM, port: 1_000 + i }))
  for (let minute = 0; minute < 10; minute++) {
    // Other ports each time: the bound is on the address.
    world.tell(...strangers.map(({ host, port }) => ({ host, port: port + minute * 100 })))
    world.endpoint.handleTraffic(PEER, world.now)
    world.run(60_000)
  }
  const toVictim = world.sent.filter(({ to }) => to.host === VICTIM)
  assert.ok(toVictim.length <= 160 + 10 * 30, `${toVictim.length} datagrams in ten minutes`)
  assert.ok(
    toVictim.every(({ bytes }) => decodeStun(bytes)?.class === 'request' && bytes.length <= 128),
    'none but checks',
  )
  assert.equal(world.path, 'none')
  assert.equal(world.endpoint.send(PEER, Buffer.alloc(1_200), world.now), false)
})

test('many peers that name one stranger share that bound', () => {
  const world = new World()
  for (let peer = 2; peer <= 40; peer++) {
    world.endpoint.connect(peer, true, world.now)
    world.tellPeer(
      peer,
      Array.from({ length: 24 }, (_, i) => ({ host: VICTIM, port: peer * 100 + i })),
    )
  }
  world.run(30_000)
  assert.ok(world.sent.length <= 160 + 15, `${world.sent.length} datagrams in half a minute`)
})

test('a peer that claims a symmetric NAT can have a stranger guessed at, within the bound for guesses', () => {
  const world = new World()
  // Our own NAT has to be known for that: two servers of the test saw one port.
  const endpoint = new Endpoint({
    random: world.random,
    stunServers: [
      { host: '198.51.100.1', port: 3478 },
      { host: '198.51.101.1', port: 3478 },
    ],
    turnServers: [],
  })
  let guesses = 0
  const run = (forMs: number) => {
    const end = world.now + forMs
    for (;;) {
      for (const command of endpoint.take()) {
        if (command.kind !== 'send') continue
        const request = decodeStun(command.bytes)
        if (command.to.host === VICTIM) guesses++
        if (request === undefined || command.to.port !== 3478) continue
        endpoint.handlePacket(sealStun(checkAnswer(request, OURS)), command.to, LOCAL, world.now)
      }
      if (endpoint.deadline() > end) break
      world.now = Math.max(world.now, endpoint.deadline())
      endpoint.handleDeadline(world.now)
    }
    world.now = end
  }
  endpoint.addSocket({ local: LOCAL, family: 4, port: OURS.port, hosts: [] }, world.now)
  endpoint.connect(PEER, true, world.now)
  run(1_000)
  assert.equal(endpoint.nat().mapping, 'independent')
  for (let i = 1; i <= 60; i++) {
    const nat = { mapping: 'dependent' as const, lastPort: 30_000 + i, step: 0 }
    const address = { host: VICTIM, port: 20_000 + i }
    const candidates = [{ kind: 'serverReflexive' as const, priority: 1, address }]
    const { ufrag, password } = world
    endpoint.handleOffer(PEER, { generation: 1, revision: i, ufrag, password, nat, candidates }, world.now)
    run(10_000)
  }
  assert.ok(guesses > 500, 'guesses are made at all')
  assert.ok(guesses <= 4_500 + 160 + 2 * 300, `${guesses} datagrams in ten minutes`)
})

test('an answer shows a path only from where the check went, and only with the key', () => {
  const world = new World()
  world.tell(THEIRS)
  world.run(3_000, sent => {
    world.answer(sent, { host: VICTIM, port: 1 })
    world.answer(sent, { host: THEIRS.host, port: 1 })
    world.answer(sent, THEIRS, iceKey(Buffer.alloc(18)))
  })
  assert.equal(world.path, 'none')
  world.tell(THEIRS)
  world.endpoint.restart(PEER, world.now)
  world.run(3_000, sent => world.answer(sent, sent.to))
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
})

test('a captured check that is sent again from another address moves nothing', () => {
  const world = new World({ isControlling: false })
  const check = world.check({ isControlling: true, nomination: 7 })
  world.tell(THEIRS)
  world.hear(check)
  world.run(2_000, sent => world.answer(sent, sent.to.host === THEIRS.host ? sent.to : { host: 'none', port: 0 }))
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
  for (let i = 0; i < 200; i++) world.hear(check, { host: VICTIM, port: 5_000 + i })
  world.sent.length = 0
  world.run(20_000, sent => sent.to.host === THEIRS.host && world.answer(sent, sent.to))
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
  const toVictim = world.sent.filter(({ to, bytes }) => to.host === VICTIM && decodeStun(bytes)?.class === 'request')
  assert.ok(toVictim.length <= 160 + 10, `${toVictim.length} checks to an address that never answered`)
})

test('two that both want to nominate, or neither, agree by the tie-breaker', () => {
  for (const isControlling of [true, false]) {
    const lost = new World({ isControlling })
    lost.tell(THEIRS)
    // Of two controlling sides the larger stays; of two controlled ones the larger changes (RFC 8445 §7.3.1.1).
    lost.hear(lost.check({ isControlling, tieBreaker: Buffer.alloc(8, isControlling ? 0xff : 0x00) }))
    lost.run(0)
    assert.equal(lost.replies()[0]?.class, 'success')
    const kept = new World({ isControlling })
    kept.tell(THEIRS)
    kept.hear(kept.check({ isControlling, tieBreaker: Buffer.alloc(8, isControlling ? 0x00 : 0xff) }))
    kept.run(0)
    const [reply] = kept.replies()
    assert.ok(reply?.class === 'error')
    assert.equal(readErrorCode(stunAttribute(reply, STUN_ATTRIBUTE.errorCode)), 487)
  }
})

test('a side that is told of the conflict takes the other role and goes on', () => {
  const world = new World({ isControlling: true })
  world.tell(THEIRS)
  let refused = 0
  world.run(2_000, sent => {
    const request = decodeStun(sent.bytes)
    if (request?.class !== 'request') return
    if (stunAttribute(request, STUN_ATTRIBUTE.iceControlling) === undefined) return world.answer(sent, sent.to)
    refused++
    const attributes = [{ type: STUN_ATTRIBUTE.errorCode, value: errorValue(487, '') }]
    const reply = { class: 'error' as const, method: request.method, transaction: request.transaction, attributes }
    world.hear(sealStun(reply, iceKey(world.password)))
  })
  assert.ok(refused > 0)
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
})

test('what must be understood and is not is refused by name', () => {
  const world = new World()
  world.tell()
  world.hear(world.check({}, [{ type: 0x7777, value: u32Value(1) }]))
  world.run(0)
  const [reply] = world.replies()
  assert.ok(reply?.class === 'error')
  assert.equal(readErrorCode(stunAttribute(reply, STUN_ATTRIBUTE.errorCode)), 420)
})

test('an offer that comes late does not undo a newer one', () => {
  const world = new World()
  world.tellPeer(PEER, [THEIRS], { revision: 5 })
  world.tellPeer(PEER, [{ host: VICTIM, port: 1 }], { revision: 5 })
  world.tellPeer(PEER, [{ host: VICTIM, port: 1 }], { revision: 4 })
  world.tellPeer(PEER, [{ host: VICTIM, port: 1 }], { generation: 0, revision: 9 })
  world.run(2_000)
  assert.deepEqual(new Set(world.sent.map(({ to }) => to.host)), new Set([THEIRS.host]))
})

test('addresses that no host can have are not checked', () => {
  const world = new World()
  const hosts = ['127.0.0.1', '0.0.0.0', '224.0.0.1', '255.255.255.255', '169.254.1.1', '::1', 'fe80::1', 'ff02::1']
  world.tell(...hosts.map(host => ({ host, port: 53 })))
  world.run(10_000)
  assert.deepEqual(world.sent, [])
})

test('truncated and mutated checks and answers neither throw nor move the path', () => {
  const world = new World()
  world.connect()
  const before = world.path
  const check = world.check({ nomination: 9 })
  for (let length = 0; length < check.length; length++) world.hear(check.subarray(0, length), { host: VICTIM, port: 9 })
  // Behind the integrity stands the fingerprint, which nothing vouches for.
  for (let i = 0; i < check.length - 8; i++) {
    const bytes = Buffer.from(check)
    bytes[i] = (bytes[i] ?? 0) ^ (1 << (i % 8))
    world.hear(bytes, { host: VICTIM, port: 9 })
  }
  world.run(0)
  assert.deepEqual(
    world.sent.filter(({ to }) => to.host === VICTIM),
    [],
  )
  assert.equal(world.path, before)
})

test('a path whose peer falls silent is given up within three seconds of traffic, and taken again when it answers', () => {
  const world = new World()
  world.connect()
  world.endpoint.handleTraffic(PEER, world.now)
  world.run(3_000)
  assert.equal(world.path, 'none')
  world.endpoint.handleTraffic(PEER, world.now)
  world.run(6_000, sent => world.answer(sent, sent.to))
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
})

test('a peer that never answers is failed after five minutes, and tried again when it speaks up', () => {
  const world = new World()
  world.tell(THEIRS)
  world.run(600_000)
  assert.equal(world.commands.filter(({ kind }) => kind === 'failed').length, 1)
  world.sent.length = 0
  world.run(600_000)
  assert.deepEqual(world.sent, [])
  world.tell(THEIRS)
  world.run(2_000, sent => world.answer(sent, sent.to))
  assert.equal(world.path, `direct ${formatAddress(THEIRS)}`)
})

test('a session packet comes back untouched, and STUN of nobody is swallowed', () => {
  const world = new World()
  const packet = Buffer.from([4, 0, 0, 0, 1, 2, 3, 4])
  assert.equal(world.endpoint.handlePacket(packet, THEIRS, LOCAL, world.now)?.bytes, packet)
  assert.equal(world.endpoint.handlePacket(world.check({}, [], iceKey(Buffer.alloc(18))), THEIRS, LOCAL, 0), undefined)
})

test('the 257th peer is refused, and after the last is gone nothing is left to do', () => {
  const world = new World()
  for (let peer = 2; peer <= 256; peer++) assert.ok(world.endpoint.connect(peer, true, world.now))
  assert.equal(world.endpoint.connect(257, true, world.now), false)
  for (let peer = 1; peer <= 256; peer++) world.endpoint.disconnect(peer)
  world.run(1_000)
  assert.equal(world.endpoint.deadline(), Number.POSITIVE_INFINITY)
})

test('a stranger has fewer checks made, of few hosts that mean something here, and no port guessed at', () => {
  const world = new World({ meetsStrangers: true })
  const hosts = [VICTIM, '192.168.1.1', '10.0.0.1', '198.51.100.67', '198.51.100.68', '198.51.100.69']
  const isPublic = (host: string) => host.startsWith('198.51.100.')
  for (let stranger = 2; stranger < 60; stranger++) {
    world.endpoint.connect(stranger, false, world.now)
    const candidates = hosts.flatMap(host =>
      [1, 2].map(port => ({
        kind: 'serverReflexive' as const,
        priority: port,
        address: { host, port: 100 * stranger + port },
      })),
    )
    const nat = { mapping: 'dependent' as const, lastPort: 30_000, step: 0 }
    const { ufrag, password } = world
    const offer = ofStranger({ generation: 1, revision: 1, ufrag, password, nat, candidates }, isPublic)
    assert.ok(offer.candidates.length <= 8)
    world.endpoint.handleOffer(stranger, offer, world.now)
    world.run(1_000)
    world.endpoint.disconnect(stranger)
  }
  const counts = Map.groupBy(world.sent, ({ to }) => to.host)
  assert.deepEqual([...counts.keys()].sort(), [VICTIM, '198.51.100.67', '198.51.100.68'])
  for (const [host, sent] of counts) assert.ok(sent.length <= 48 + 6, `${sent.length} to ${host} in a minute`)
  assert.equal(
    world.commands.some(({ kind }) => kind === 'openSockets'),
    false,
  )
})

test('when somebody says where a stranger is, ports are guessed there once, and not again for ten minutes', () => {
  const world = new World({ meetsStrangers: true })
  const nat = { mapping: 'dependent' as const, lastPort: 30_000, step: 0 }
  const other = { host: '198.51.100.67', port: 9 }
  // Ours has to be of the other kind for that to be of use.
  for (const [peer, address] of [
    [PEER, { host: VICTIM, port: 9 }],
    [2, other],
    [3, { host: '198.51.100.68', port: 9 }],
  ] as const) {
    if (peer !== PEER) world.endpoint.connect(peer, false, world.now)
    world.tellPeer(peer, [address], { nat })
  }
  world.run(2_000)
  const to = (host: string) => world.sent.filter(sent => sent.to.host === host).length
  assert.ok(to(VICTIM) <= 48, 'its own word is not enough')
  assert.ok(world.endpoint.vouch(PEER, VICTIM, world.now))
  assert.equal(world.endpoint.vouch(PEER, VICTIM, world.now), false, 'said twice, it is done once')
  assert.ok(world.endpoint.vouch(2, other.host, world.now))
  assert.equal(world.endpoint.vouch(3, '198.51.100.68', world.now), false, 'two at once, and no more')
  world.run(60_000)
  for (const host of [VICTIM, other.host]) assert.ok(to(host) > 1_500 && to(host) <= 2_048 + 48 + 6, `${to(host)}`)
  assert.ok(to('198.51.100.68') <= 48 + 6)
  assert.equal(world.endpoint.vouch(PEER, VICTIM, world.now), false)
  world.run(600_000)
  assert.ok(to(VICTIM) <= 2_048 + 48 + 66, `${to(VICTIM)}`)
})

test('a stranger is not guessed at on the word that somebody else is', () => {
  const world = new World({ meetsStrangers: true })
  world.tellPeer(PEER, [{ host: VICTIM, port: 9 }], { nat: { mapping: 'dependent', lastPort: 30_000, step: 0 } })
  assert.ok(world.endpoint.vouch(PEER, '198.51.100.67', world.now))
  world.run(10_000)
  assert.ok(world.sent.length <= 48, `${world.sent.length}`)
})
