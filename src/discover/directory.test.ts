import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { generateIdentity, type Identity } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { type DescriptorFields, decodeDescriptor, MAX_DESCRIPTOR_BYTES } from '#wire/descriptor.ts'
import { type DirectoryMessage, decodeDirectory, encodeDirectory, MAX_PIECE } from '#wire/directory.ts'
import { MAX_LIFETIME_MS, MAX_SKEW_MS, makeDescriptor, nodeIdOf, verifyDescriptor } from './descriptor.ts'
import { Directory } from './directory.ts'
import { answerDirectory, type DirectorySource, refreshDirectory } from './refresh.ts'

const NOW = 1_800_000_000_000
const HOUR = 3_600_000
const hopKey = generateX25519().publicKey

function fields(change: Partial<DescriptorFields> = {}): Omit<DescriptorFields, 'identityKey'> {
  return {
    hopKey,
    sequence: 1,
    publishedMs: NOW,
    expiresMs: NOW + HOUR,
    roles: ['guard', 'exit'],
    addresses: [{ host: '192.0.2.1', port: 51_821 }],
    control: ['/ip4/192.0.2.1/tcp/51820/p2p/12D3KooWtest'],
    operator: 'Änne’s relays',
    family: [],
    hasTunnel: false,
    exitPorts: [
      { from: 1, to: 24 },
      { from: 26, to: 65_535 },
    ],
    capacityKbit: 1_000,
    software: 'hoplite test',
    ...change,
  }
}

const identities: Identity[] = Array.from({ length: 12 }, () => generateIdentity())
const identity = identities[0] as Identity
const made = (change: Partial<DescriptorFields> = {}, by = identity) => makeDescriptor(fields(change), by)
const relayAt = (i: number, change: Partial<DescriptorFields> = {}) =>
  made({ addresses: [{ host: `198.51.${i}.1`, port: 1 }], ...change }, identities[i])

test('a descriptor survives signing and checking, with the node id of its key', () => {
  const checked = verifyDescriptor(made(), NOW)
  assert.ok('id' in checked)
  assert.equal(checked.id, nodeIdOf(identity.publicKey))
  const { id: _id, bytes, identityKey, ...rest } = checked
  assert.deepEqual(rest, { ...fields(), hopKey: new Uint8Array(hopKey) })
  assert.ok(bytes.length < MAX_DESCRIPTOR_BYTES && identityKey.length === 1_984)
})

test('a relay may be a peer and nothing else, or besides; bits of roles that nobody knows are refused', () => {
  for (const roles of [['peer'], ['guard', 'peer'], ['guard', 'middle', 'peer']] as const) {
    const checked = verifyDescriptor(made({ roles, exitPorts: [] }), NOW)
    assert.deepEqual('roles' in checked && checked.roles, roles)
  }
  assert.throws(() => made({ roles: ['peer'] }), 'ports of an exit')
  const bytes = Uint8Array.from(made({ roles: ['peer'], exitPorts: [] }))
  const at = 1 + 1_984 + 32 + 3 * 8
  assert.equal(bytes[at], 8)
  for (const bits of [0, 16, 24, 255]) {
    bytes[at] = bits
    assert.deepEqual(verifyDescriptor(bytes, NOW), { problem: 'malformed' }, `roles ${bits}`)
  }
})

test('an exit may have a tunnel, and nobody else', () => {
  const checked = verifyDescriptor(made({ hasTunnel: true }), NOW)
  assert.equal('hasTunnel' in checked && checked.hasTunnel, true)
  assert.throws(() => made({ roles: ['guard'], exitPorts: [], hasTunnel: true }))
})

test('a relay may say in which country it is; one that does not is encoded as before there was that field', () => {
  const price = { milliCreditsPerGib: 5, freeKib: 1, issuerId: 'ab'.repeat(32) }
  for (const change of [{}, { price }]) {
    const [without, within] = [made(change), made({ ...change, country: 'CH' })]
    const checked = verifyDescriptor(within, NOW)
    assert.equal('country' in checked && checked.country, 'CH')
    assert.ok(!('country' in verifyDescriptor(without, NOW)))
    assert.equal(within.length, without.length + 2)
  }
  for (const country of ['ch', 'C', 'CHE', 'C1', 'Ä']) assert.throws(() => made({ country }), country)
})

test('a flipped bit anywhere in a descriptor is noticed', () => {
  const bytes = made()
  for (let bit = 3; bit < bytes.length * 8; bit += 401) {
    const flipped = Uint8Array.from(bytes)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    assert.ok('problem' in verifyDescriptor(flipped, NOW), `bit ${bit}`)
  }
})

test('each of the two signatures must hold by itself', () => {
  const bytes = made()
  const other = makeDescriptor(fields(), identities[1] as Identity)
  for (const [from, to] of [
    [bytes.length - 3_373, bytes.length - 3_309],
    [bytes.length - 3_309, bytes.length],
  ] as const) {
    const mixed = Uint8Array.from(bytes)
    mixed.set(other.subarray(from, to), from)
    assert.deepEqual(verifyDescriptor(mixed, NOW), { problem: 'forged' })
  }
})

test('every truncation and a trailing byte are refused', () => {
  const bytes = made()
  for (let length = 0; length < bytes.length; length += 31)
    assert.deepEqual(verifyDescriptor(bytes.subarray(0, length), NOW), { problem: 'malformed' }, `${length}`)
  assert.ok('problem' in verifyDescriptor(Buffer.concat([bytes, Uint8Array.of(0)]), NOW))
  assert.equal(decodeDescriptor(new Uint8Array(MAX_DESCRIPTOR_BYTES + 1)), undefined)
})

test('times are checked: expired, from the future, living too long', () => {
  assert.deepEqual(verifyDescriptor(made(), NOW + HOUR), { problem: 'expired' })
  assert.deepEqual(verifyDescriptor(made(), NOW - MAX_SKEW_MS - 1), { problem: 'fromTheFuture' })
  assert.deepEqual(verifyDescriptor(made({ expiresMs: NOW + MAX_LIFETIME_MS + 1 }), NOW), { problem: 'livesTooLong' })
})

test('fields out of their range are not even signed', () => {
  for (const change of [
    { roles: [] },
    { addresses: [] },
    { operator: '' },
    { operator: 'line\nbreak' },
    { exitPorts: [] },
    { roles: ['guard' as const] },
    { exitPorts: [{ from: 5, to: 4 }] },
    {
      exitPorts: [
        { from: 1, to: 9 },
        { from: 9, to: 10 },
      ],
    },
    { expiresMs: NOW },
    {
      addresses: [
        { host: '192.0.2.1', port: 1 },
        { host: '192.0.2.1', port: 1 },
      ],
    },
    { software: 'x'.repeat(33) },
  ]) {
    assert.throws(() => made(change), JSON.stringify(change))
  }
})

test('a hop key that gives no secret is refused: it would stop every handshake', () => {
  assert.deepEqual(verifyDescriptor(made({ hopKey: new Uint8Array(32) }), NOW), { problem: 'malformed' })
})

test('a newer descriptor replaces an older one, and an older one does not come back, even after the newer expired', () => {
  const directory = new Directory()
  assert.equal(directory.offer(made({ sequence: 5 }), NOW), 'accepted')
  assert.equal(directory.offer(made({ sequence: 5 }), NOW), 'known')
  assert.equal(directory.offer(made({ sequence: 4 }), NOW), 'older')
  assert.equal(directory.offer(made({ sequence: 6, expiresMs: NOW + 1_000 }), NOW), 'accepted')
  directory.expire(NOW + 2_000)
  assert.equal(directory.size, 0)
  assert.equal(directory.offer(made({ sequence: 5 }), NOW + 2_000), 'older')
})

test('a relay that has left is used by nobody and passed on, so that no older descriptor of it stands anywhere', async () => {
  const directory = filled(0, 1)
  const [id, other] = [0, 1].map(i => nodeIdOf(identities[i]?.publicKey ?? new Uint8Array(0)))
  assert.equal(directory.offer(relayAt(0, { sequence: 2, capacityKbit: 0 }), NOW), 'accepted')
  const ids = (at: Directory) => at.list(NOW).map(relay => relay.id)
  assert.deepEqual([ids(directory), directory.size, directory.find(id ?? '')], [[other], 1, undefined])
  assert.equal(directory.offer(relayAt(0), NOW), 'older')
  const again = new Directory()
  assert.ok(again.loadCache(directory.encodeCache(NOW), NOW))
  assert.equal(again.offer(relayAt(0), NOW), 'older', 'a copy on disk remembers it')

  const client = filled(0, 1, 2)
  await refresh(client, [source('knows', directory), source('is behind', filled(0, 1, 2))])
  assert.equal(client.size, 2)
  assert.equal(ids(client).includes(id ?? ''), false)

  directory.offer(relayAt(0, { sequence: 3 }), NOW)
  assert.deepEqual([directory.size, directory.find(id ?? '')?.sequence], [2, 3], 'it may come back')
  directory.offer(relayAt(0, { sequence: 4, capacityKbit: 0 }), NOW)
  directory.expire(NOW + HOUR)
  assert.equal(directory.size, 0)
})

test('a newer descriptor that one source keeps back is asked of another, though an older one is known', async () => {
  const [mute, honest]: [DirectoryMessage[], DirectoryMessage[]] = [[], []]
  const newer = new Directory()
  newer.offer(relayAt(0, { sequence: 2 }), NOW)
  const sources = [source('mute', newer, mute), source('honest', newer, honest)].map((from, i) => ({
    ...from,
    ask: async (request: DirectoryMessage) =>
      i === 0 && request.kind === 'pieceRequest' ? (mute.push(request), undefined) : from.ask(request),
  }))
  for (const seed of ['a', 'b', 'c', 'd']) {
    const directory = filled(0)
    await refresh(directory, sources, [], seed)
    assert.equal(directory.find(nodeIdOf(identities[0]?.publicKey ?? new Uint8Array(0)))?.sequence, 2, seed)
  }
  assert.ok(
    mute.some(({ kind }) => kind === 'pieceRequest'),
    'it was asked first at least once',
  )
})

test('one address cannot fill the directory', () => {
  const directory = new Directory(3)
  const results = identities.map(by => directory.offer(made({}, by), NOW))
  assert.deepEqual(results.filter(result => result === 'accepted').length, 3)
  assert.equal(directory.size, 3)
  assert.equal(directory.offer(made({ sequence: 2 }, identities[0]), NOW), 'accepted', 'those who are in may renew')
})

test('the cache gives the same directory back; damage is noticed and what is sound is kept', () => {
  const directory = new Directory()
  for (let i = 0; i < 5; i++) directory.offer(relayAt(i), NOW)
  const cache = directory.encodeCache(NOW)
  const again = new Directory()
  assert.equal(again.loadCache(cache, NOW), true)
  assert.deepEqual(again.digest(NOW), directory.digest(NOW))
  for (const damaged of [
    new Uint8Array(0),
    Buffer.from('garbage'),
    cache.subarray(0, cache.length - 10),
    Buffer.concat([cache, Uint8Array.of(1)]),
    Uint8Array.from(cache, (byte, i) => (i === 3_000 ? byte ^ 1 : byte)),
  ]) {
    const partial = new Directory()
    assert.equal(partial.loadCache(damaged, NOW), false)
    assert.ok(partial.size <= 5)
  }
  assert.equal(new Directory().loadCache(cache, NOW + 2 * HOUR), true, 'a cache that is merely old is sound, and empty')
})

test('directory messages survive encoding, and random bytes never throw', () => {
  const ids = identities.map(({ publicKey }) => nodeIdOf(publicKey)).sort()
  const messages: DirectoryMessage[] = [
    { kind: 'digestRequest' },
    { kind: 'digest', entries: ids.map((id, sequence) => ({ id, sequence })) },
    { kind: 'pieceRequest', ids: ids.slice(0, MAX_PIECE) },
    { kind: 'piece', descriptors: [Uint8Array.of(1, 2), new Uint8Array(0)] },
  ]
  for (const message of messages) {
    const bytes = encodeDirectory(message)
    assert.deepEqual(decodeDirectory(bytes), message)
    for (let length = 0; length < bytes.length; length++)
      assert.equal(decodeDirectory(bytes.subarray(0, length)), undefined)
  }
  const random = seededRandom('directory')
  for (let i = 0; i < 5_000; i++) {
    const bytes = random(1 + (i % 90))
    bytes[0] = (bytes[0] ?? 0) % 6
    decodeDirectory(bytes)
  }
})

/** A source that serves `directory` and keeps what it was asked. */
function source(name: string, directory: Directory, asked: DirectoryMessage[] = []): DirectorySource {
  return {
    name,
    ask: async request => {
      asked.push(request)
      return answerDirectory(directory, request, NOW)
    },
  }
}

function filled(...relays: number[]): Directory {
  const directory = new Directory()
  for (const i of relays) directory.offer(relayAt(i), NOW)
  return directory
}

const refresh = (directory: Directory, first: DirectorySource[], further: DirectorySource[] = [], seed = 'refresh') =>
  refreshDirectory({
    directory,
    first,
    further: () => further,
    sources: 4,
    nowMs: () => NOW,
    random: seededRandom(seed),
  })

test('the whole directory is taken from several sources, though each hides some relays', async () => {
  const directory = new Directory()
  const report = await refresh(
    directory,
    [source('a', filled(0, 1, 2, 3)), source('b', filled(2, 3, 4, 5))],
    [source('c', filled(6))],
  )
  assert.equal(directory.size, 7)
  assert.deepEqual(report, { answered: 3, failed: 0, accepted: 7, missing: 0 })
})

test('sources that fail, lie, send garbage or somebody else’s descriptors cost only themselves', async () => {
  const directory = new Directory()
  const liar: DirectorySource = {
    name: 'liar',
    ask: async request =>
      request.kind === 'digestRequest'
        ? { kind: 'digest', entries: [{ id: '0'.repeat(64), sequence: 9 }] }
        : { kind: 'piece', descriptors: [new Uint8Array(5_000), relayAt(11, { sequence: 1 })] },
  }
  const dead: DirectorySource = { name: 'dead', ask: () => Promise.reject(new Error('no')) }
  const mute: DirectorySource = { name: 'mute', ask: async () => undefined }
  const report = await refresh(directory, [liar, dead, mute, source('honest', filled(0, 1))])
  assert.equal(report.failed, 2)
  assert.equal(report.missing, 1, 'the relay that does not exist')
  assert.ok(directory.find(nodeIdOf(identities[0]?.publicKey ?? new Uint8Array(0))))
  assert.ok(directory.find(nodeIdOf(identities[1]?.publicKey ?? new Uint8Array(0))))
})

test('what is asked is the same whichever relays will be used: it depends on what is missing alone', async () => {
  const transcripts: string[] = []
  for (const favourite of [0, 1, 2]) {
    const asked: DirectoryMessage[] = []
    const directory = filled(7)
    await refresh(directory, [source('a', filled(0, 1, 2, 3, 7), asked)])
    // Choosing happens afterwards and at home: nothing of it goes into the requests.
    assert.ok(directory.find(nodeIdOf(identities[favourite]?.publicKey ?? new Uint8Array(0))))
    transcripts.push(JSON.stringify(asked))
  }
  assert.equal(new Set(transcripts).size, 1)
  assert.equal(
    (transcripts[0] ?? '').includes(nodeIdOf(identities[7]?.publicKey ?? new Uint8Array(0))),
    false,
    'what is known is not asked for',
  )
})

test('pieces of a large directory are dealt out over those who have them', async () => {
  const [a, b]: [DirectoryMessage[], DirectoryMessage[]] = [[], []]
  const everything = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
  await refresh(new Directory(), [source('a', filled(...everything), a), source('b', filled(...everything), b)])
  const ids = (asked: DirectoryMessage[]) =>
    asked.flatMap(message => (message.kind === 'pieceRequest' ? message.ids : []))
  assert.equal(ids(a).length + ids(b).length, everything.length, 'nothing is fetched twice')
  assert.ok(ids(a).length === 5 && ids(b).length === 5)
})

const HIDDEN = {
  roles: ['peer'],
  addresses: [],
  control: [],
  exitPorts: [],
  letterKey: new Uint8Array(1216).fill(7),
} satisfies Partial<DescriptorFields>

test('a peer that is asked by letter says its key and no address; nobody else may do without one', () => {
  const bytes = made(HIDDEN)
  const checked = verifyDescriptor(bytes, NOW)
  assert.ok('id' in checked, JSON.stringify(checked))
  assert.equal(bytes[0], 2)
  assert.deepEqual([checked.addresses, checked.control, checked.roles], [[], [], ['peer']])
  assert.deepEqual(checked.letterKey, HIDDEN.letterKey)
  const refused: Partial<DescriptorFields>[] = [
    { ...HIDDEN, addresses: [{ host: '192.0.2.1', port: 1 }] },
    { ...HIDDEN, control: ['/ip4/192.0.2.1/tcp/1/p2p/x'] },
    { ...HIDDEN, roles: ['guard', 'peer'] },
    { roles: ['peer'], exitPorts: [], addresses: [] },
  ]
  for (const change of refused) assert.throws(() => made(change), JSON.stringify(change.roles))
  for (let length = 0; length < bytes.length; length += 97)
    assert.ok('problem' in verifyDescriptor(bytes.subarray(0, length), NOW))
  assert.equal(new Directory(0).offer(bytes, NOW), 'accepted', 'it takes no place of an address')
})
