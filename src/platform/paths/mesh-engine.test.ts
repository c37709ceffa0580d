import assert from 'node:assert/strict'
import test, { type TestContext } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import type { EngineKind } from '../engine.ts'
import { machineAddresses } from '../network-watch.ts'
import { type LinkPeer, type MeshEngine, type MeshEvent, startMesh } from './mesh-engine.ts'

const skip = machineAddresses().length > 0 ? false : 'this machine has no address but loopback'
const onLinux = process.platform === 'linux' ? false : 'Linux only'
const PSK = new Uint8Array(32).fill(5)

interface Side {
  readonly engine: MeshEngine
  readonly events: MeshEvent[]
  readonly self: (isControlling: boolean) => LinkPeer
  readonly privateKey: Uint8Array
}

function start(
  t: TestContext,
  number: number,
  engine: EngineKind,
  onOffer: (offer: Uint8Array) => void,
  onFailure: (error: Error) => void = error => assert.fail(error),
): Side {
  const { privateKey, publicKey } = x25519FromPrivate(seededRandom(`engine ${number}`)(32))
  const ipv6 = `fd68:6f70:6c69::${number}`
  const events: MeshEvent[] = []
  const servers = { stunServers: [], turnServers: [] }
  const settings = {
    ipv6,
    ipv4: undefined,
    network: 'fd68:6f70:6c69::/48',
    port: 0,
    mapsPorts: false,
    network4: '100.64.0.0/10',
    zone: 'hop',
    mark: 0,
    engine,
  }
  const started = startMesh(
    { privateKey, ...settings, ...servers, tun: { kind: 'none' } },
    event => {
      events.push(event)
      if (event.kind === 'offer') onOffer(event.offer)
    },
    onFailure,
  )
  t.after(() => started.close())
  const self = (isControlling: boolean) => ({
    ...{ peer: 1, publicKey, presharedKey: PSK, addresses: [ipv6], rules: [] },
    isControlling,
  })
  return { engine: started, events, self, privateKey }
}

async function until<T>(find: () => T | undefined): Promise<T> {
  for (;;) {
    const found = find()
    if (found !== undefined) return found
    await new Promise(resolve => setTimeout(resolve, 5))
  }
}

for (const [one, other] of [
  ['linux', 'linux'],
  ['linux', 'portable'],
  ['portable', 'portable'],
] as const)
  test(`two workers, ${one} and ${other}, find a path, have a session, and an echo comes back; a removed one answers no more`, {
    skip: skip || (one === 'linux' && onLinux),
  }, async t => {
    const sides: Side[] = []
    const carry = (to: number) => (offer: Uint8Array) =>
      sides[to]?.engine.send({ kind: 'offer', peer: 1, epoch: 1, offer })
    sides.push(start(t, 1, one, carry(1)), start(t, 2, other, carry(0)))
    const [a, b] = sides as [Side, Side]
    const ready = await until(() => a.events.find(event => event.kind === 'ready'))
    assert.ok(ready.port > 0 && ready.interface === undefined)
    // Both know of each other before either says where it is.
    a.engine.send({ kind: 'peers', privateKey: a.privateKey, peers: [b.self(true)] })
    b.engine.send({ kind: 'peers', privateKey: b.privateKey, peers: [a.self(false)] })
    const path = await until(() => a.events.find(event => event.kind === 'path' && event.path !== undefined))
    assert.equal(path.kind === 'path' && path.path?.kind, 'direct')
    const up = async (request: number) => {
      a.engine.send({ kind: 'status', request })
      const found = await until(() => a.events.find(event => event.kind === 'status' && event.request === request))
      return found.kind === 'status' && found.peers[0]?.isUp === true
    }
    for (let request = 1; !(await up(request)); request++);
    a.engine.send({ kind: 'ping', peer: 1, request: 0 })
    const pong = await until(() => a.events.find(event => event.kind === 'pong'))
    assert.ok(pong.kind === 'pong' && pong.rttMs !== undefined)
    b.engine.send({ kind: 'peers', privateKey: b.privateKey, peers: [] })
    b.engine.send({ kind: 'status', request: 0 })
    const gone = await until(() => b.events.find(event => event.kind === 'status'))
    assert.deepEqual(gone.kind === 'status' && gone.peers, [])
  })

test('garbage as an offer changes nothing, and closing twice is no error', async t => {
  const side = start(t, 3, 'portable', () => undefined)
  await until(() => side.events.find(event => event.kind === 'ready'))
  side.engine.send({ kind: 'offer', peer: 9, epoch: 1, offer: Uint8Array.of(1, 2, 3) })
  side.engine.send({ kind: 'ping', peer: 9, request: 7 })
  const pong = await until(() => side.events.find(event => event.kind === 'pong'))
  assert.deepEqual(pong, { kind: 'pong', request: 7, rttMs: undefined })
  await side.engine.close()
  await side.engine.close()
})

test('when the thread that carries packets dies of a bug, that is told, and closing still ends', {
  skip: onLinux,
}, async t => {
  const failures: string[] = []
  const side = start(
    t,
    4,
    'linux',
    () => undefined,
    error => failures.push(error.message),
  )
  const other = start(t, 5, 'linux', () => undefined)
  await until(() => side.events.find(event => event.kind === 'ready'))
  side.engine.send({ kind: 'peers', privateKey: side.privateKey, peers: [other.self(true)] })
  const nowhere = { host: 'no address', port: 9 }
  const meeting = { address: nowhere, relay: nowhere, token: new Uint8Array(32), isControlling: true }
  side.engine.send({ kind: 'meeting', peer: 1, meeting })
  await until(() => failures[0])
  assert.deepEqual(failures, ['encode a socket address: the host is not an IP address'])
  await side.engine.close()
})
