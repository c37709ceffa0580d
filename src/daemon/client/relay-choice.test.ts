import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import { generateIdentity } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { makeDescriptor, nodeIdOf } from '#discover/descriptor.ts'
import { Directory } from '#discover/directory.ts'
import type { RouteHop } from '#route/way.ts'
import type { Role } from '#wire/descriptor.ts'
import type { Log } from '../log.ts'
import { adviceFor } from './client-status.ts'
import { type HiddenPeer, type ReachedPeer, RelayChoice } from './relay-choice.ts'

const HOUR = 3_600_000
const log: Log = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} }

/** A relay of its own operator and network in the directory; gives its id. */
function addRelay(
  directory: Directory,
  n: number,
  roles: readonly Role[],
  country?: string,
  issuerId?: string,
): string {
  const identity = generateIdentity()
  const bytes = makeDescriptor(
    {
      hopKey: generateX25519().publicKey,
      sequence: 1,
      publishedMs: Date.now(),
      expiresMs: Date.now() + HOUR,
      roles,
      addresses: [{ host: `198.${n}.100.1`, port: 1 }],
      control: [`/ip4/198.${n}.100.1/tcp/1/p2p/12D3KooW${n}`],
      operator: `operator ${n}`,
      family: [],
      hasTunnel: false,
      exitPorts: roles.includes('exit') ? [{ from: 1, to: 65_535 }] : [],
      capacityKbit: 1_000,
      software: 'test',
      ...(country !== undefined && { country }),
      ...(issuerId !== undefined && { price: { milliCreditsPerGib: 1, freeKib: 1, issuerId } }),
    },
    identity,
  )
  assert.equal(directory.offer(bytes, Date.now()), 'accepted')
  return nodeIdOf(identity.publicKey)
}

/** A peer that is asked by letter; gives its id. */
function addHidden(directory: Directory, n: number): string {
  const identity = generateIdentity()
  const bytes = makeDescriptor(
    {
      ...{ hopKey: generateX25519().publicKey, sequence: 1, roles: ['peer'], addresses: [], control: [] },
      ...{ publishedMs: Date.now(), expiresMs: Date.now() + HOUR, operator: `operator ${n}`, family: [] },
      ...{ hasTunnel: false, exitPorts: [], capacityKbit: 1_000, software: 'test' },
      letterKey: new Uint8Array(1216).fill(n),
    },
    identity,
  )
  assert.equal(directory.offer(bytes, Date.now()), 'accepted')
  return nodeIdOf(identity.publicKey)
}

/** As if it had been reached at this address. */
function reachedAt(peer: HiddenPeer, host: string): ReachedPeer {
  const there = { ...peer, address: { host, port: 1 } }
  return { peer: there, hops: [there] }
}

function withState(
  run: (directory: Directory, open: (hops?: number, bootstrap?: string[]) => RelayChoice) => void,
): void {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-choice-'))
  const directory = new Directory()
  try {
    run(directory, (hops = 2, bootstrap = []) => new RelayChoice(directory, stateDir, hops, log, { bootstrap }))
  } finally {
    rmSync(stateDir, { recursive: true, force: true })
  }
}

/** A route that must be there, by ids. */
function pick(choice: RelayChoice): { readonly first: string | undefined; readonly exit: string } {
  const chosen = choice.pickRoute()
  assert.ok('exit' in chosen, JSON.stringify(chosen))
  return { first: chosen.hops[0]?.id, exit: chosen.exit.id }
}

const ALL: readonly Role[] = ['guard', 'middle', 'exit']

test('relays that take credits of another issuer are not used, and counted so that their user learns why', () =>
  withState((directory, open) => {
    addRelay(directory, 1, ['guard'])
    for (const n of [2, 3]) addRelay(directory, n, ALL, undefined, 'ab'.repeat(32))
    const choice = open()
    assert.deepEqual(choice.pickRoute(), { problem: 'no usable relay has the role exit' })
    const lack = 'no usable relay has the role exit'
    assert.equal(choice.unaffordable, 2)
    assert.match(adviceFor(lack, true, directory.size, choice.unaffordable), /^2 of 3 relays take credits .* issuer_id/)
    assert.match(adviceFor(lack, true, directory.size, 0), /wait for more relays/)
    assert.match(adviceFor('the route was lost: unreachable', true, 3, 2), /tried by itself/)
  }))

test('a relay that was a first hop is no exit afterwards, though its attempt failed', () =>
  withState((directory, open) => {
    const guard = addRelay(directory, 1, ['guard'])
    const exits = [2, 3, 4].map(n => addRelay(directory, n, ALL))
    const choice = open()
    for (let i = 0; i < 12; i++) {
      const { first, exit } = pick(choice)
      assert.equal(first, guard)
      assert.ok(exits.includes(exit))
    }
    // The guard is silent: one of the exits is entered by, and from then on knows this client's address.
    const hop = choice.relays.find(({ id }) => id === guard)
    assert.ok(hop)
    choice.handleFailure(hop)
    const met = pick(choice).first
    assert.ok(met !== undefined && exits.includes(met))
    choice.handleSuccess([hop])
    for (let i = 0; i < 40; i++) assert.notEqual(pick(choice).exit, met)
    const later = open()
    later.load()
    for (let i = 0; i < 40; i++) assert.notEqual(pick(later).exit, met, 'after a restart')
  }))

test('a relay that was asked for the directory is no exit while there is any other, even one that failed', () =>
  withState((directory, open) => {
    const source = addRelay(directory, 1, ALL)
    const choice = open()
    assert.equal(choice.guardSources().length, 1)
    const other = addRelay(directory, 2, ALL)
    addRelay(directory, 3, ['guard'])
    for (let i = 0; i < 20; i++) assert.equal(pick(choice).exit, other)
    const hop = choice.relays.find(({ id }) => id === other)
    assert.ok(hop)
    choice.handleFailure(hop)
    assert.equal(pick(choice).exit, other)
    choice.handleFailure(hop)
    choice.handleFailure(hop)
    assert.equal(pick(choice).exit, source, 'one that failed again and again is none')
  }))

test('another way to the exit begins at a relay that may be no exit, while there is one', () =>
  withState((directory, open) => {
    const guard = addRelay(directory, 1, ['guard'])
    const exit = addRelay(directory, 2, ALL)
    const choice = open()
    const route = choice.pickRoute()
    assert.ok('exit' in route && route.exit.id === exit && route.hops[0]?.id === guard)
    const plain = [3, 4, 5].map(n => addRelay(directory, n, ['guard', 'middle']))
    for (const n of [6, 7, 8, 9]) addRelay(directory, n, ALL)
    choice.handleFailure(route.hops[0] as RouteHop)
    for (let i = 0; i < 20; i++) {
      const way: readonly RouteHop[] | undefined = choice.pickWay(route.exit, route.hops)
      assert.ok(plain.includes(way?.[0]?.id ?? ''))
    }
  }))

test('with one hop alone there is nobody else to hide from: the exit is used again', () =>
  withState((directory, open) => {
    const exit = addRelay(directory, 1, ALL)
    const choice = open(1)
    for (let i = 0; i < 5; i++) assert.equal(pick(choice).exit, exit)
    addRelay(directory, 2, ALL)
    const used = new Set(Array.from({ length: 40 }, () => pick(choice).exit))
    assert.equal(used.size, 2)
  }))

test('a bootstrap node that is a relay too is no exit either: it is asked first of all', () =>
  withState((directory, open) => {
    const other = addRelay(directory, 1, ALL)
    addRelay(directory, 2, ALL)
    addRelay(directory, 3, ['guard'])
    const choice = open(2, ['/dns4/a.example/tcp/443/p2p/12D3KooW2'])
    for (let i = 0; i < 20; i++) assert.equal(pick(choice).exit, other)
  }))

test('a country is preferred while an exit there fits, and one that is avoided is never used', () =>
  withState((directory, open) => {
    addRelay(directory, 1, ['guard'])
    const [swiss, icelandic] = [addRelay(directory, 2, ['exit'], 'CH'), addRelay(directory, 3, ['exit'], 'IS')]
    const choice = open()
    choice.prefer({ countries: ['CH'] })
    for (let i = 0; i < 20; i++) assert.equal(pick(choice).exit, swiss)
    choice.prefer({ countries: ['NO'] })
    assert.equal(new Set(Array.from({ length: 40 }, () => pick(choice).exit)).size, 2, 'there is none in Norway')
    choice.prefer({ countries: ['CH'], notCountries: ['CH'] })
    for (let i = 0; i < 20; i++) assert.equal(pick(choice).exit, icelandic)
    choice.prefer({ notCountries: ['CH', 'IS'] })
    assert.deepEqual(choice.pickRoute(), { problem: 'no usable relay has the role exit in a country that is wanted' })
    choice.prefer({ countries: [], notCountries: [], exit: swiss })
    assert.equal(pick(choice).exit, swiss)
  }))

test('while nobody at all is heard the guards are asked in turn, and nobody else', () =>
  withState((directory, open) => {
    for (const n of [1, 2, 3, 4, 5, 6]) addRelay(directory, n, ['guard', 'middle'])
    for (const n of [7, 8]) addRelay(directory, n, ['exit'])
    const choice = open(3)
    const first = choice.pickRoute()
    assert.ok('exit' in first)
    const asked = new Set<string>()
    for (let i = 0; i < 30; i++) {
      const [guard]: readonly RouteHop[] = choice.pickWay(first.exit, first.hops) ?? []
      assert.ok(guard)
      asked.add(guard.id)
      choice.handleFailure(guard, true)
      const { first: next } = pick(choice)
      asked.add(next ?? '')
    }
    assert.equal(asked.size, 3)
    choice.handleSuccess(first.hops)
    assert.equal(pick(choice).first, first.hops[0]?.id, 'no guard rests')
  }))

const SERVER = { host: '203.0.113.1', port: 51_820 }
const idsOf = (choice: ReturnType<RelayChoice['pickPeers']>) =>
  'hops' in choice ? choice.hops.map(({ id }) => id) : []

test('peers without an address are on no way before they were reached, and each is as likely to be asked', () =>
  withState((directory, open) => {
    const ids = [1, 2, 3].map(n => addHidden(directory, n))
    const choice = open(1)
    const none = choice.pickPeers(1, SERVER, [])
    assert.match('problem' in none ? none.problem : '', /0 known, 0 in use, 3 more that are asked by letter/)
    const picked = Array.from({ length: 60 }, () => choice.pickHidden([])?.id)
    assert.deepEqual(new Set(picked), new Set(ids))
    const other = choice.pickHidden([{ id: ids[0] ?? '', operator: 'Operator 2' }])
    assert.equal(other?.id, ids[2], 'neither who is in use nor one of its operator')
    assert.ok('problem' in choice.pickPeers(2, SERVER, []), 'they lend no second hop')
  }))

test('a first way is direct, spares are rather over who was asked, and none leads into the network of the server', () =>
  withState((directory, open) => {
    const direct = addRelay(directory, 9, ['peer'])
    for (const n of [1, 2]) addHidden(directory, n)
    const choice = open(1)
    const hidden = choice.pickHidden([])
    assert.ok(hidden)
    const far = [reachedAt(hidden, '192.0.2.7')]
    assert.deepEqual(idsOf(choice.pickPeers(1, SERVER, [], far)), [direct])
    const used = choice.relays.filter(({ id }) => id === direct)
    assert.deepEqual(idsOf(choice.pickPeers(1, SERVER, used, far)), [hidden.id])
    const beside = [reachedAt(hidden, '203.0.9.9')]
    assert.deepEqual(idsOf(choice.pickPeers(1, SERVER, used, beside)), [])
    assert.deepEqual(idsOf(choice.pickPeers(1, SERVER, [...used, hidden as never], far)), [], 'it is in use')
  }))

test('one that did not answer is asked again only where there is no way at all', () =>
  withState((directory, open) => {
    addHidden(directory, 1)
    const choice = open(1)
    const hidden = choice.pickHidden([])
    assert.ok(hidden)
    choice.handleFailure({ ...hidden, address: SERVER })
    assert.equal(choice.pickHidden([])?.id, hidden.id)
    assert.equal(choice.pickHidden([{ id: 'another', operator: 'another' }]), undefined)
  }))

test('relays that know our address already are asked what it looks like, before any other', () =>
  withState((directory, open) => {
    for (let n = 1; n <= 8; n++) addRelay(directory, n, ['guard'])
    const first = open(1)
    const asked = first.pickStunRelays().map(({ id }) => id)
    assert.equal(new Set(asked).size, 3)
    const later = open(1)
    later.load()
    assert.deepEqual(
      later
        .pickStunRelays()
        .map(({ id }) => id)
        .sort(),
      asked.sort(),
    )
  }))

test('a peer is met at a relay of the directory that asks no price, and that one knows our address from then on', () =>
  withState((directory, open) => {
    const guard = addRelay(directory, 1, ['guard', 'exit'])
    const peer = addRelay(directory, 2, ['peer'])
    const dear = addRelay(directory, 3, ['guard'], undefined, 'ab'.repeat(32))
    const elsewhere = addRelay(directory, 4, ['exit'])
    const choice = open(2)
    assert.equal(choice.meetAt(guard)?.id, guard)
    for (const other of [peer, dear, elsewhere, '00'.repeat(32)]) assert.equal(choice.meetAt(other), undefined)
    assert.equal(pick(choice).exit, elsewhere, 'who knows us is no exit')
  }))

test('when the exits have failed, a guard that is not heard is no reason to ask none of the others', () =>
  withState((directory, open) => {
    for (const n of [1, 2, 3, 4]) addRelay(directory, n, ['guard', 'middle'])
    for (const n of [7, 8]) addRelay(directory, n, ['exit'])
    const choice = open(3)
    for (const { roles, ...relay } of choice.relays) if (roles.includes('exit')) choice.handleFailure(relay)
    const asked: (string | undefined)[] = []
    for (let i = 0; i < 9; i++) {
      const { first } = pick(choice)
      asked.push(first)
      choice.handleFailure(choice.relays.find(({ id }) => id === first) as RouteHop, true)
    }
    assert.equal(new Set(asked).size, 3)
    for (let i = 0; i < 6; i++) assert.equal(new Set(asked.slice(i, i + 3)).size, 3, 'each in turn')
  }))
