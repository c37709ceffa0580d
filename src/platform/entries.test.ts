import assert from 'node:assert/strict'
import test from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import type { Report } from '#forward/commands.ts'
import { Counters } from '#forward/counters.ts'
import { Forwarder } from '#forward/forwarder.ts'
import type { LegFlow } from '#forward/tables.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import type { SocketHandlers } from './datagrams.ts'
import { Entries } from './entries.ts'

const ENTRY = 1
const LISTEN: Address = { host: '127.0.0.1', port: 51_820 }
const CLIENT: Address = { host: '127.0.0.1', port: 7_001 }
const STRANGER: Address = { host: '192.168.1.66', port: 7_002 }
const SIZES = { initiation: 148, response: 92, cookieReply: 64 } as const
const TYPES = { initiation: 1, response: 2, cookieReply: 3, transport: 4 } as const

/** A WireGuard message of the right size; `index` is the receiver's, or of an initiation the sender's. */
function message(kind: keyof typeof TYPES, index = 7, length = kind === 'transport' ? 96 : SIZES[kind]): Uint8Array {
  const bytes = new Uint8Array(length)
  bytes[0] = TYPES[kind]
  new DataView(bytes.buffer).setUint32(kind === 'response' ? 8 : 4, index, true)
  return bytes
}

/** An entry with an endpoint for others and legs over sessions 1 to `legs`, of which the first is in use. */
function endpoint(legs = 1) {
  const [counters, reports, toClient, toPeer] = [
    new Counters(),
    [] as Report[],
    [] as { to: string; bytes: Uint8Array }[],
    [] as number[],
  ]
  const time = { now: 0 }
  let handlers: SocketHandlers | undefined
  let isClosed = false
  const nothing = () => {}
  const forwarder = new Forwarder(
    {
      toSocket: ({ port }) => toPeer.push(port),
      toFlow: nothing,
      toTap: nothing,
      toAssociation: nothing,
      toEntry: nothing,
      report: report => reports.push(report),
      nowMs: () => time.now,
    },
    counters,
  )
  const datagrams = {
    open: (_plan: unknown, given: SocketHandlers) => {
      handlers = given
      given.onOpen?.(LISTEN)
      return {
        send: (buffer: Uint8Array, offset: number, length: number, to?: Address) => {
          toClient.push({ to: to === undefined ? '' : formatAddress(to), bytes: buffer.slice(offset, offset + length) })
        },
        close: () => {
          isClosed = true
        },
      }
    },
  }
  const entries = new Entries(
    forwarder,
    datagrams,
    counters,
    report => reports.push(report),
    () => time.now,
  )
  entries.install(ENTRY, { kind: 'socket', listen: LISTEN })
  for (let session = 1; session <= legs; session++) {
    const keys = { localIndex: session, remoteIndex: session, send: systemRandom(32), receive: systemRandom(32) }
    const via = { kind: 'socket', address: { host: '10.0.0.1', port: session } } as const
    forwarder.tables.installSession(session, 'initiator', via, keys)
    entries.installLeg(ENTRY, session, 1)
  }
  entries.useLeg(ENTRY, 1)
  const leg = (session: number) => forwarder.tables.sessions.get(session)?.flows.get(1) as LegFlow
  return {
    entries,
    counters,
    reports,
    time,
    leg,
    tables: forwarder.tables,
    get isClosed() {
      return isClosed
    },
    fromClient: (bytes: Uint8Array, from = CLIENT) => handlers?.onDatagram(bytes, 0, bytes.length, from),
    fromServer: (bytes: Uint8Array, session = 1) => entries.deliver(leg(session), bytes, 0, bytes.length),
    /** Ports of the peers that were sent to since the last call. */
    sentTo: () => toPeer.splice(0),
    heard: () => toClient.splice(0).map(({ to }) => to),
  }
}

/** The same after a handshake of the client through its leg. */
function connected(legs = 1) {
  const made = endpoint(legs)
  made.fromClient(message('initiation', 7))
  made.fromServer(message('response', 7))
  made.sentTo()
  made.heard()
  made.reports.splice(0)
  return made
}

test('what is not WireGuard’s in type and size is dropped and counted, of every length', () => {
  const { fromClient, counters, sentTo } = connected()
  let dropped = 0
  for (let type = 0; type < 256; type++) {
    for (const length of [0, 1, 3, 4, 31, 32, 63, 64, 65, 91, 92, 93, 147, 148, 149, 1_500]) {
      const bytes = new Uint8Array(length)
      if (length > 0) bytes[0] = type
      const sizes: Record<number, boolean> = { 1: length === 148, 2: length === 92, 3: length === 64, 4: length >= 32 }
      const isWireGuard = sizes[type] ?? false
      fromClient(bytes)
      assert.equal(sentTo().length, isWireGuard ? 1 : 0, `type ${type}, ${length} bytes`)
      if (!isWireGuard) dropped++
    }
  }
  const reserved = message('transport')
  reserved[2] = 1
  fromClient(reserved)
  assert.deepEqual(sentTo(), [])
  assert.equal(counters.get('dropNotWireGuard'), dropped + 1)
})

test('datagrams longer than a peer carries are dropped', () => {
  const { fromClient, counters, sentTo } = connected()
  fromClient(message('transport', 7, 1_801))
  fromClient(message('transport', 7, 65_507))
  assert.deepEqual(sentTo(), [])
  assert.equal(counters.get('dropTooLong'), 2)
})

test('packets and handshakes of others do not draw the client’s answers away', () => {
  const { fromClient, fromServer, heard } = connected()
  for (const bytes of [message('transport'), message('response'), message('cookieReply'), message('initiation', 99)]) {
    fromClient(bytes, STRANGER)
    fromServer(message('transport'))
    assert.deepEqual(heard(), [formatAddress(CLIENT)])
  }
})

test('an answer goes to who asked; once the server has answered a handshake, packets go where that came from', () => {
  const { fromClient, fromServer, heard } = connected()
  const moved = { host: '127.0.0.1', port: 7_777 }
  fromClient(message('initiation', 8), moved)
  fromServer(message('cookieReply', 8))
  fromServer(message('transport'))
  fromServer(message('response', 1_234))
  assert.deepEqual(heard(), [formatAddress(moved), formatAddress(CLIENT), formatAddress(CLIENT)])
  fromServer(message('response', 8))
  fromServer(message('transport'))
  assert.deepEqual(heard(), [formatAddress(moved), formatAddress(moved)])
})

test('of initiations without an answer the newest are remembered, however many come', () => {
  const { fromClient, fromServer, heard } = connected()
  for (let index = 100; index < 10_000; index++) fromClient(message('initiation', index), STRANGER)
  fromClient(message('initiation', 50), { ...CLIENT, port: 9 })
  fromServer(message('response', 100))
  assert.deepEqual(heard(), [formatAddress(CLIENT)], 'the first of them is forgotten')
  fromServer(message('response', 50))
  assert.deepEqual(heard(), ['127.0.0.1:9'])
})

test('a client that was there before the entry is answered from its first packet on', () => {
  const { fromClient, fromServer, heard } = endpoint()
  fromClient(message('transport'))
  fromServer(message('transport'))
  assert.deepEqual(heard(), [formatAddress(CLIENT)])
})

test('before a client has spoken nothing is sent anywhere', () => {
  const { fromServer, heard } = endpoint()
  for (const kind of ['initiation', 'response', 'cookieReply', 'transport'] as const) fromServer(message(kind))
  assert.deepEqual(heard(), [])
})

test('an answer proves its leg, which is told once; data does not', () => {
  const { fromClient, fromServer, reports } = endpoint(2)
  reports.splice(0)
  fromServer(message('transport'), 2)
  assert.deepEqual(reports, [])
  fromClient(message('initiation'))
  for (let i = 0; i < 3; i++) fromServer(message('response'))
  fromServer(message('cookieReply'), 2)
  assert.deepEqual(reports, [
    { kind: 'legProven', entry: ENTRY, session: 1 },
    { kind: 'legProven', entry: ENTRY, session: 2 },
  ])
})

test('no packet leaves by a leg that is not proven, or when none is in use', () => {
  const { entries, fromClient, counters, sentTo } = endpoint(2)
  fromClient(message('transport'))
  assert.deepEqual(sentTo(), [])
  entries.useLeg(ENTRY, undefined)
  for (const kind of ['initiation', 'response', 'cookieReply', 'transport'] as const) fromClient(message(kind))
  assert.deepEqual(sentTo(), [])
  assert.equal(counters.get('dropNoLeg'), 5)
})

test('a leg whose session ends takes nothing more, and neither do commands and packets for what is gone', () => {
  const { entries, fromClient, leg, tables, sentTo, heard } = connected(2)
  const gone = leg(1)
  entries.removeLeg(ENTRY, 1)
  assert.equal(leg(1), undefined)
  fromClient(message('transport'))
  assert.deepEqual(sentTo(), [], 'the leg in use is gone, and another is used when that is said')
  tables.removeSession(2)
  entries.useLeg(ENTRY, 2)
  fromClient(message('initiation'))
  assert.deepEqual(sentTo(), [])
  entries.deliver(gone, message('transport'), 0, 96)
  assert.deepEqual(heard(), [formatAddress(CLIENT)], 'what was on its way still arrives')
  for (const number of [0, 2, 99]) {
    entries.installLeg(number, 1, 1)
    entries.removeLeg(number, 1)
    entries.useLeg(number, 1)
    entries.prove(number)
    entries.remove(number)
    entries.send(number, message('transport'), 0, 96, false)
  }
})

test('an entry that is removed closes its socket and ends its legs, and one in its place begins anew', () => {
  const made = connected(2)
  made.entries.remove(ENTRY)
  assert.ok(made.isClosed)
  assert.deepEqual([made.leg(1), made.leg(2)], [undefined, undefined])
  made.fromClient(message('initiation'))
  assert.deepEqual(made.sentTo(), [])
  made.entries.install(ENTRY, { kind: 'socket', listen: LISTEN })
  made.entries.install(ENTRY, { kind: 'socket', listen: LISTEN })
  made.fromClient(message('transport'))
  assert.deepEqual(made.sentTo(), [])
})

test('data that goes out for 12 s without an answer is told, once in 12 s, and an answer ends it', () => {
  const { fromClient, fromServer, reports, time } = connected()
  const silent = () => reports.splice(0).filter(({ kind }) => kind === 'legSilent').length
  const second = () => {
    time.now += 1_000
    fromClient(message('transport'))
  }
  for (let i = 0; i < 13; i++) second()
  assert.equal(silent(), 0)
  second()
  assert.equal(silent(), 1)
  for (let i = 0; i < 11; i++) second()
  assert.equal(silent(), 0)
  second()
  assert.equal(silent(), 1)
  fromServer(message('transport'))
  for (let i = 0; i < 12; i++) second()
  assert.equal(silent(), 0)
})

test('keepalives alone are no data: a client that only keeps its NAT open is not called silent', () => {
  const { fromClient, reports, time } = connected()
  for (let i = 0; i < 100; i++) {
    time.now += 1_000
    fromClient(message('transport', 7, 32))
  }
  assert.deepEqual(reports, [])
})
