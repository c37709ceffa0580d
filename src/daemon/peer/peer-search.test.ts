// Who asks and who is asked, with all that daemons have for it but sockets: a network of the test carries datagrams and letters.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import type { Carrier, OnLetter } from '#discover/carrier.ts'
import { makeDescriptor, nodeIdOf } from '#discover/descriptor.ts'
import { Directory } from '#discover/directory.ts'
import type { Command } from '#forward/commands.ts'
import { waitFor } from '#lab/testnet.ts'
import type { MatchEvent } from '#meet/matching.ts'
import { answerBinding } from '#path/answer-binding.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { DescriptorFields } from '#wire/descriptor.ts'
import { decodePathOffer, encodePathOffer } from '#wire/path-offer.ts'
import { decodePeerOffer, encodePeerOffer } from '#wire/peer-offer.ts'
import { decodeStun } from '#wire/stun.ts'
import { RelayChoice } from '../client/relay-choice.ts'
import { type Config, defaultConfig } from '../config.ts'
import type { Log } from '../log.ts'
import { MatchOffice } from './match-office.ts'
import { PeerDesk } from './peer-desk.ts'
import { PeerSearch } from './peer-search.ts'

const [RELAY, ASKER, PEER, VICTIM] = [
  { host: '20.5.0.1', port: 51_821 },
  { host: '20.7.0.1', port: 40_000 },
  { host: '20.8.0.1', port: 51_821 },
  { host: '20.66.0.1', port: 53 },
]
const defaults = defaultConfig()
const config: Config = {
  ...defaults,
  meet: { ...defaults.meet, interval_ms: 20, work_bits: 0, map_port: false },
}
const log: Log = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} }
const LISTEN: Address = { host: '0.0.0.0', port: PEER.port }

/** Datagrams by address, letters to everybody, and one relay that says how a sender looks. */
class World implements AsyncDisposable {
  readonly sent: { readonly from: string; readonly to: Address; readonly bytes: Uint8Array }[] = []
  readonly directory = new Directory()
  /** Whether datagrams come through to the relay alone. */
  isBlocked = false
  readonly relay = this.publish({ roles: ['guard'], addresses: [RELAY], operator: 'relay' })
  readonly closing: (() => Promise<void>)[] = []
  readonly #hosts = new Map<string, (bytes: Uint8Array, from: Address) => void>()
  readonly #listeners = new Set<OnLetter>()

  publish(more: Partial<DescriptorFields>): string {
    const identity = generateIdentity()
    const bytes = makeDescriptor(
      {
        ...{ hopKey: generateX25519().publicKey, sequence: 1, roles: ['peer'], addresses: [], control: [], family: [] },
        ...{ publishedMs: Date.now(), expiresMs: Date.now() + 3_600_000, operator: 'somebody', hasTunnel: false },
        ...{ exitPorts: [], capacityKbit: 1_000, software: 'test' },
        ...more,
      },
      identity,
    )
    assert.equal(this.directory.offer(bytes, Date.now()), 'accepted')
    return nodeIdOf(identity.publicKey)
  }

  carrier(): Carrier {
    return {
      name: 'test',
      isReady: true,
      post: async (_bucket, letter) => void setImmediate(() => this.#listeners.forEach(hear => hear(letter, 'all'))),
      subscribe: (_bucket, onLetter) => {
        this.#listeners.add(onLetter)
        return () => this.#listeners.delete(onLetter)
      },
      close: async () => undefined,
    }
  }

  /** What a data plane at that address would do with STUN. */
  send(from: Address, commands: readonly Command[]): void {
    for (const command of commands) {
      if (command.kind !== 'sendHandshake' || command.via.kind !== 'socket') continue
      const { address: to } = command.via
      this.sent.push({ from: formatAddress(from), to, bytes: command.bytes })
      setImmediate(() => {
        if (to.host === RELAY.host) {
          const answer = answerBinding(command.bytes, from, false)
          if (answer !== undefined) this.#hosts.get(formatAddress(from))?.(answer.bytes, RELAY)
        } else if (!this.isBlocked) this.#hosts.get(formatAddress(to))?.(command.bytes, from)
      })
    }
  }

  desk(key: XWingKeyPair, isOpen = true, intervalMs = config.meet.interval_ms): PeerDesk {
    const rare = { ...config, meet: { ...config.meet, interval_ms: intervalMs } }
    const desk = new PeerDesk({
      ...{ config: rare, seed: systemRandom(32), key, directory: this.directory, carriers: [this.carrier()] },
      ...{ socket: LISTEN, send: (...commands: readonly Command[]) => this.send(PEER, commands) },
      ...{ isOpen: () => isOpen, serves: () => false },
    })
    this.#hosts.set(formatAddress(PEER), (bytes, from) => desk.handleReport({ kind: 'stun', bytes, from }))
    this.closing.push(() => desk.close())
    return desk
  }

  search(): { readonly search: PeerSearch; readonly choice: RelayChoice; readonly targets: string[][] } {
    const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-search-'))
    const choice = new RelayChoice(this.directory, stateDir, 1, log)
    /** What the firewall would let through at each datagram. */
    const targets: string[][] = []
    const search = new PeerSearch({
      ...{ config, log, choice },
      send: commands => {
        targets.push(search.targets.map(formatAddress))
        this.send(ASKER, commands)
      },
      ...{ inUse: () => [], onReached: () => undefined, onFewerTargets: () => undefined },
      open: async () => ({ carriers: [this.carrier()], lines: undefined, close: async () => undefined }),
    })
    search.begin({ socket: { host: '0.0.0.0', port: ASKER.port }, takesSockets: false })
    this.#hosts.set(formatAddress(ASKER), (bytes, from) => search.handleReport({ kind: 'stun', bytes, from }))
    this.closing.push(async () => {
      await search.close()
      rmSync(stateDir, { recursive: true, force: true })
    })
    return { search, choice, targets }
  }

  /** Somebody who asks what he likes. */
  office(
    onEvent: (event: MatchEvent) => void,
    more: { key?: XWingKeyPair; serve?: () => Uint8Array } = {},
  ): MatchOffice {
    const { key, serve } = more
    const office = new MatchOffice({
      ...{ carriers: [this.carrier()], meet: config.meet, random: systemRandom, nowMs: Date.now, onEvent },
      ...(key && { key }),
      ...(serve && { serve: (_offer, answer) => answer(serve()), maxAnswersPerMinute: 60 }),
    })
    this.closing.push(() => office.close())
    return office
  }

  to(address: Pick<Address, 'host'>): number {
    return this.sent.filter(({ to }) => to.host === address.host).length
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.closing.map(close => close()))
  }
}

/** An offer that names these addresses, and perhaps a relay. */
function offerOf(addresses: readonly Address[], relay?: string): Uint8Array {
  const candidates = addresses.map((address, i) => ({ kind: 'serverReflexive' as const, priority: 1 + i, address }))
  const nat = { mapping: 'dependent' as const, lastPort: 1, step: 1 }
  const offer = encodePathOffer({
    ...{ generation: 1, revision: 1, ufrag: systemRandom(6), password: systemRandom(18), nat, candidates },
  })
  return encodePeerOffer({ offer, ...(relay !== undefined && { meeting: { relay, token: systemRandom(32) } }) })
}

test('a peer without an address is asked and reached, and then its address alone is spoken to', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  world.desk(key)
  const id = world.publish({ letterKey: key.publicKey })
  const { search, targets } = world.search()
  const [reached] = await waitFor(async () => (search.reached.length > 0 ? search.reached : undefined), 'a peer')
  assert.equal(reached?.peer.id, id)
  assert.deepEqual(
    reached?.hops.map(({ address }) => address),
    [PEER],
  )
  assert.deepEqual(search.targets.map(formatAddress).sort(), [PEER, RELAY].map(formatAddress).sort())
  const known = new Set([PEER, RELAY].map(formatAddress))
  assert.ok(targets.flat().every(target => known.has(target)))
  assert.ok(world.sent.every(({ to }) => known.has(formatAddress(to)) || formatAddress(to) === formatAddress(ASKER)))
  await new Promise(resolve => setTimeout(resolve, 800))
  assert.ok(
    world.sent.every(({ bytes }) => decodeStun(bytes) !== undefined),
    'no relay is gone to',
  )
})

test('nothing at all is done about an asker before the answer’s turn to be posted', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  // A turn that does not come.
  const desk = world.desk(key, true, 3_600_000)
  const office = world.office(() => undefined)
  office.ask(key.publicKey, offerOf([VICTIM]))
  await waitFor(async () => (desk.counters['guests'] === 1 ? true : undefined), 'the letter')
  await new Promise(resolve => setTimeout(resolve, 700))
  assert.equal(world.to(VICTIM), 0)
  assert.ok(
    world.sent.every(({ bytes }) => decodeStun(bytes) !== undefined),
    'neither a check nor a relay',
  )
})

test('who is behind a router that gives every other another port is waited for at a relay, once the answer is on its way', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  world.desk(key)
  const answers: MatchEvent[] = []
  world.office(event => answers.push(event)).ask(key.publicKey, offerOf([VICTIM]))
  const toRelay = () => world.sent.filter(({ to, bytes }) => to.host === RELAY.host && decodeStun(bytes) === undefined)
  await waitFor(async () => (toRelay().length > 0 ? true : undefined), 'the way to the relay')
  const [event] = await waitFor(async () => (answers.length === 1 ? answers : undefined), 'an answer')
  const told = event?.kind === 'answered' ? decodePeerOffer(event.offer) : undefined
  assert.equal(told?.meeting?.relay, world.relay, 'the answer names it')
})

test('where no check gets through, a way over the relay is offered; the direct one once there is one', async () => {
  await using world = new World()
  world.isBlocked = true
  const key = xwingFromSeed(systemRandom(32))
  world.desk(key)
  world.publish({ letterKey: key.publicKey })
  const { search } = world.search()
  const [reached] = await waitFor(async () => (search.reached.length > 0 ? search.reached : undefined), 'a peer')
  assert.deepEqual(
    reached?.hops.map(({ id }) => id),
    [world.relay, reached?.peer.id],
  )
  assert.equal(reached?.hops[1]?.meeting?.length, 32)
  world.isBlocked = false
  await waitFor(async () => (search.reached[0]?.hops.length === 1 ? true : undefined), 'the direct way')
})

test('a peer that lies about where it is has few checks sent to others, and none into our own network', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  const home = { host: '192.168.1.1', port: 80 }
  const many = Array.from({ length: 20 }, (_, i) => ({ host: VICTIM.host, port: 1_000 + i }))
  world.office(() => undefined, { key, serve: () => offerOf([home, { host: '127.0.0.1', port: 9 }, ...many]) })
  world.publish({ letterKey: key.publicKey })
  const { search, targets } = world.search()
  await waitFor(async () => (world.to(VICTIM) > 0 ? true : undefined), 'checks')
  await new Promise(resolve => setTimeout(resolve, 1_200))
  assert.ok(world.to(VICTIM) <= 48, `${world.to(VICTIM)}`)
  assert.equal(world.to(home) + world.to({ host: '127.0.0.1' }), 0)
  assert.ok(targets.flat().every(target => target.startsWith(VICTIM.host) || target === formatAddress(RELAY)))
  assert.ok(
    search.reached.every(({ hops }) => hops.length === 2),
    'it is reached at the relay at most',
  )
})

test('a flood of liars gets a peer to send a stranger fewer than fifty checks, and nothing else to anybody', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  const desk = world.desk(key)
  const answered: boolean[] = []
  const offices = [1, 2, 3].map(() =>
    world.office(event => event.kind === 'answered' && answered.push(event.isAccepted)),
  )
  const elsewhere = Buffer.alloc(32, 3).toString('hex')
  for (const [i, office] of offices.entries()) {
    for (let j = 0; j < 16; j++) {
      const victims = Array.from({ length: 20 }, (_, k) => ({ host: VICTIM.host, port: 1_000 * i + 20 * j + k + 1 }))
      // It is not for who asks to say which relay is gone to.
      office.ask(key.publicKey, offerOf([{ host: '10.0.0.1', port: 80 }, ...victims], elsewhere))
    }
  }
  await waitFor(async () => (answered.length >= 12 ? true : undefined), 'answers')
  await new Promise(resolve => setTimeout(resolve, 1_500))
  assert.equal(answered.length, 12, 'as many as a minute has')
  assert.ok(world.to(VICTIM) > 0 && world.to(VICTIM) <= 50, `${world.to(VICTIM)} to one address`)
  const targets = new Set(world.sent.map(({ to }) => to.host))
  assert.deepEqual([...targets].sort(), [RELAY.host, VICTIM.host].sort())
  for (const { bytes } of world.sent.filter(({ to }) => to.host === VICTIM.host))
    assert.ok(decodeStun(bytes)?.class === 'request' && bytes.length <= 128)
  assert.equal(desk.reached, 0)
})

test('a peer that lends nothing now says no, and what is no offer gets nothing done', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  world.desk(key, false)
  const answers: MatchEvent[] = []
  const office = world.office(event => answers.push(event))
  office.ask(key.publicKey, offerOf([VICTIM]))
  office.ask(key.publicKey, Uint8Array.of(7, 7, 7))
  await waitFor(async () => (answers.length === 2 ? true : undefined), 'two answers')
  assert.ok(answers.every(event => event.kind === 'answered' && !event.isAccepted))
  assert.equal(world.to(VICTIM), 0)
})

test('an answer tells where a peer is, and nothing that means something in its own home alone', async () => {
  await using world = new World()
  const key = xwingFromSeed(systemRandom(32))
  world.desk(key)
  const answers: MatchEvent[] = []
  world.office(event => answers.push(event)).ask(key.publicKey, offerOf([ASKER]))
  const [event] = await waitFor(async () => (answers.length === 1 ? answers : undefined), 'an answer')
  assert.ok(event?.kind === 'answered' && event.isAccepted)
  const offer = decodePathOffer(decodePeerOffer(event.offer)?.offer ?? new Uint8Array(0))
  assert.deepEqual(
    offer?.candidates.map(({ address }) => formatAddress(address)),
    [formatAddress(PEER)],
  )
})
