import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Command, Report } from '#forward/commands.ts'
import type { PathShell } from '#platform/paths/path-shell.ts'
import type { Address } from '#wire/address.ts'
import { encodeStun, STUN_METHOD } from '#wire/stun.ts'
import { PunchedWays } from './punched-ways.ts'

const PEER: Address = { host: '20.0.0.1', port: 41_000 }
const STUN: Uint8Array<ArrayBuffer> = Uint8Array.from(
  encodeStun({
    ...{ class: 'request', method: STUN_METHOD.binding, transaction: new Uint8Array(12), attributes: [] },
  }),
)
const HANDSHAKE = Uint8Array.of(5, 0, 0, 0)
const KEYS = { localIndex: 1, remoteIndex: 2, send: new Uint8Array(32), receive: new Uint8Array(32) }

/** A shell that gives away its sockets from number 1001 on. */
function world() {
  const delivered: { from: Address; local: number }[] = []
  let send: ((to: Address, bytes: Uint8Array) => void) | undefined
  const shell = {
    handOver: (local: number, sends: typeof send) => {
      if (local < 1_001) return undefined
      send = sends
      return { fd: local - 992, port: local + 44_000 }
    },
    deliver: (_bytes: Uint8Array, from: Address, local: number) => delivered.push({ from, local }),
  } as unknown as PathShell
  const sent: Command[] = []
  const ways = new PunchedWays(commands => sent.push(...commands))
  return { ways, shell, sent, delivered, check: () => send?.(PEER, STUN) }
}

const hello = (address: Address, bytes = HANDSHAKE): Command => ({
  ...{ kind: 'sendHandshake', via: { kind: 'socket', address }, bytes },
})

test('without such a socket everything goes through as it is', () => {
  const { ways, shell } = world()
  const commands = [hello(PEER)]
  assert.equal(ways.outward(commands), commands)
  const report: Report = { kind: 'stun', bytes: STUN, from: PEER }
  assert.equal(ways.inward(report, shell), report)
  assert.equal(ways.adopt(shell, 7, PEER), false, 'the node’s own socket is not given away')
})

test('what goes to the other and what comes from there takes the socket, and others see its real address', () => {
  const { ways, shell, sent, delivered, check } = world()
  assert.ok(ways.adopt(shell, 1_001, PEER))
  assert.ok(ways.adopt(shell, 1_001, PEER), 'once')
  const [opened, ...more] = sent
  assert.ok(opened?.kind === 'openPunched')
  assert.equal(more.length, 0)
  const { standIn } = opened
  assert.deepEqual([opened.to, opened.fd, opened.port], [PEER, 9, 45_001])

  const other = { host: '20.0.0.2', port: 41_000 }
  const session: Command = {
    ...{ kind: 'installSession', session: 1, role: 'initiator', keys: KEYS, via: { kind: 'socket', address: PEER } },
  }
  const out = ways.outward([hello(PEER), hello(other), session, hello(PEER, STUN)])
  const addresses = out.map(command => ('via' in command && command.via?.kind === 'socket' ? command.via.address : ''))
  assert.deepEqual(addresses, [standIn, other, standIn, PEER], 'checks from the node’s own socket stay its own')

  const came: Report = { kind: 'handshake', bytes: HANDSHAKE, from: { kind: 'socket', address: standIn } }
  assert.deepEqual(ways.inward(came, shell), { ...came, from: { kind: 'socket', address: PEER } })
  assert.equal(ways.inward({ kind: 'stun', bytes: STUN, from: standIn }, shell), undefined)
  assert.deepEqual(delivered, [{ from: PEER, local: 1_001 }])
  const direct: Report = { kind: 'stun', bytes: STUN, from: PEER }
  assert.equal(ways.inward(direct, shell), direct)

  check()
  assert.deepEqual(sent.at(-1), hello(standIn, STUN), 'checks of the socket leave by it')
  ways.close(1_001)
  assert.deepEqual(sent.at(-1), { kind: 'closePunched', standIn })
  assert.deepEqual(ways.outward([hello(PEER)]), [hello(PEER)])
})

test('a second socket to the same address takes the place of the first, and sessions stay', () => {
  const { ways, shell, sent, check } = world()
  ways.adopt(shell, 1_001, PEER)
  assert.ok(ways.adopt(shell, 1_002, PEER))
  const opened = sent.filter(command => command.kind === 'openPunched')
  assert.deepEqual(
    opened.map(({ fd }) => fd),
    [9, 10],
  )
  assert.deepEqual(opened[0]?.standIn, opened[1]?.standIn, 'by the same name')
  ways.close(1_001)
  assert.equal(sent.length, 2, 'the end of the first is not that of the second')
  check()
  assert.equal(sent.length, 3)
  ways.close(1_002)
  assert.equal(sent.at(-1)?.kind, 'closePunched')
})
