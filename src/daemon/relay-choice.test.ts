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
import type { Log } from './log.ts'
import { RelayChoice } from './relay-choice.ts'

const HOUR = 3_600_000
const log: Log = { info: () => {}, warn: () => {}, error: () => {}, debug: () => {} }

/** A relay of its own operator and network in the directory; gives its id. */
function addRelay(directory: Directory, n: number, roles: readonly Role[]): string {
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
    },
    identity,
  )
  assert.equal(directory.offer(bytes, Date.now()), 'accepted')
  return nodeIdOf(identity.publicKey)
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
