import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { after, test } from 'node:test'
import { systemRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { makeDescriptor } from './descriptor.ts'
import { Directory } from './directory.ts'
import { type DiscoveryNode, startDiscovery } from './node.ts'

const started: DiscoveryNode[] = []
after(() => Promise.all(started.map(node => node.close())))

async function node(
  role: 'server' | 'client' | 'publisher',
  bootstrap: readonly string[],
  directory = new Directory(),
  announce?: readonly string[],
): Promise<DiscoveryNode> {
  const made = await startDiscovery({
    role,
    seed: systemRandom(32),
    listen: role === 'server' ? [{ host: '127.0.0.1', port: 0 }] : [],
    bootstrap,
    directory,
    allowPrivateAddresses: true,
    nowMs: Date.now,
    random: systemRandom,
    ...(announce && { announce }),
  })
  started.push(made)
  return made
}

function descriptor(
  n: number,
  control: readonly string[],
  { identity = generateIdentity(), capacityKbit = 1 } = {},
): Uint8Array {
  const now = Date.now()
  const fields = {
    hopKey: generateX25519().publicKey,
    sequence: now,
    publishedMs: now,
    expiresMs: now + 3_600_000,
    roles: ['guard' as const],
    addresses: [{ host: `192.0.2.${n}`, port: 1 }],
    control: control.slice(0, 1),
    operator: `operator ${n}`,
    family: [],
    hasTunnel: false,
    exitPorts: [],
    capacityKbit,
    software: 'test',
  }
  return makeDescriptor(fields, identity)
}

test('relays publish over libp2p, and a client takes all of them from several sources', async () => {
  const bootstrap = await node('server', [])
  const relays = await Promise.all([1, 2, 3, 4].map(() => node('server', bootstrap.addresses)))
  for (const [i, relay] of relays.entries()) assert.ok((await relay.publish(descriptor(i + 1, relay.addresses))) > 0)
  const directory = new Directory()
  const client = await node('client', bootstrap.addresses, directory)
  const report = await client.refresh()
  assert.equal(directory.size, 4)
  assert.equal(report.answered, 4)
  assert.equal(await client.publish(descriptor(9, [])), 0, 'a client publishes nothing')
})

test('who listens nowhere publishes all the same, and others learn of it', async () => {
  const kept = new Directory()
  const bootstrap = await node('server', [], kept)
  const publisher = await node('publisher', bootstrap.addresses)
  assert.deepEqual(publisher.addresses, [])
  assert.ok((await publisher.publish(descriptor(1, []))) > 0)
  assert.equal(kept.size, 1)
})

test('a relay that leaves is gone from the directories of others, and from a client at its next refresh', async () => {
  const [kept, known] = [new Directory(), new Directory()]
  const bootstrap = await node('server', [], kept)
  const relay = await node('server', bootstrap.addresses)
  const identity = generateIdentity()
  const client = await node('client', bootstrap.addresses, known)
  await relay.publish(descriptor(1, relay.addresses, { identity }))
  await client.refresh()
  assert.deepEqual([kept.size, known.size], [1, 1])
  await new Promise(resolve => setTimeout(resolve, 2))
  assert.ok((await relay.withdraw(descriptor(1, [], { identity, capacityKbit: 0 }))) > 0)
  assert.equal(kept.size, 0)
  await client.refresh()
  assert.equal(known.size, 0)
})

test('garbage at the port, and a source that is no source, disturb nobody', async () => {
  const bootstrap = await node('server', [])
  await bootstrap.publish(descriptor(1, bootstrap.addresses))
  const port = Number(bootstrap.addresses[0]?.split('/')[4])
  await Promise.all(
    Array.from({ length: 20 }, (_, i) => {
      return new Promise<void>(resolve => {
        const socket = connect(port, '127.0.0.1', () => socket.end(systemRandom(1 + i * 50)))
        socket.on('error', () => {})
        socket.setTimeout(300, () => socket.destroy())
        socket.resume()
        socket.once('close', () => resolve())
      })
    }),
  )
  const directory = new Directory()
  const client = await node(
    'client',
    ['/ip4/127.0.0.1/tcp/1/p2p/12D3KooWBZ9J3zLXqzbJkR9Fx7rUaVwLiQhvGuUkoLQkLmEUFTRL', ...bootstrap.addresses],
    directory,
  )
  const report = await client.refresh()
  assert.equal(report.failed, 1)
  assert.equal(directory.size, 1)
})

test('a public address is told to others at once, with the peer id, though nobody has confirmed it yet', async () => {
  const server = await node('server', [], new Directory(), ['/ip4/20.1.0.7/tcp/51820', '/ip6/2600::7/tcp/51820'])
  assert.equal(server.addresses.length, 2)
  assert.match(server.addresses[0] ?? '', /^\/ip4\/20\.1\.0\.7\/tcp\/51820\/p2p\/12D3/)
  assert.match(server.addresses[1] ?? '', /^\/ip6\/2600::7\/tcp\/51820\/p2p\/12D3/)
})
