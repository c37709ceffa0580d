import assert from 'node:assert/strict'
import { createHash, randomBytes } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { after, test } from 'node:test'
import { REFUSAL, type Refusal } from '#wire/control.ts'
import { ClientStreams } from './client.ts'
import { DialError } from './dial-error.ts'
import { ExitStreams } from './exit.ts'
import { ExitPolicy } from './exit-policy.ts'
import { StreamLink } from './link.ts'

/** Two links whose taps are joined, as a session joins them; `loses` drops datagrams. */
async function joined(loses: () => boolean = () => false) {
  const [client, exit] = [new StreamLink(), new StreamLink()]
  const taps = await Promise.all([client, exit].map(link => tapFor(link)))
  const [a, b] = taps as [UdpSocket, UdpSocket]
  a.on('message', message => loses() || b.send(message))
  b.on('message', message => loses() || a.send(message))
  client.attach({ host: '127.0.0.1', port: a.address().port })
  exit.attach({ host: '127.0.0.1', port: b.address().port })
  after(() => {
    client.close()
    exit.close()
    for (const tap of taps) tap.close()
  })
  return { client, exit }
}

async function tapFor(link: StreamLink): Promise<UdpSocket> {
  const tap = createSocket('udp4')
  await new Promise<void>(resolve => tap.bind(0, '127.0.0.1', resolve))
  await new Promise<void>(resolve => tap.connect(link.address.port, link.address.host, resolve))
  tap.on('error', () => {})
  return tap
}

async function origin(serve: (socket: Socket) => void): Promise<{ server: Server; port: number }> {
  const server = createServer({ allowHalfOpen: true }, socket => {
    socket.on('error', () => {})
    serve(socket)
  })
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  after(() => server.close())
  const address = server.address()
  return { server, port: typeof address === 'object' && address ? address.port : 0 }
}

async function setUp(
  serve: (socket: Socket) => void,
  options: { loses?: () => boolean; names?: Record<string, string[]>; most?: number } = {},
) {
  const { port } = await origin(serve)
  const { client, exit } = await joined(options.loses)
  const policy = new ExitPolicy({ rules: [], ownAddresses: [], allowPrivate: [{ host: '127.0.0.1', port }] })
  const streams = new ExitStreams({
    policy,
    maxStreamsPerSession: options.most ?? 1_024,
    resolve: async name => {
      const found = options.names?.[name]
      if (found === undefined) throw Object.assign(new Error('no'), { code: 'ENOTFOUND' })
      return found
    },
  })
  streams.link(1, () => exit)
  const dialer = new ClientStreams(client, request =>
    request.kind === 'openStream' ? streams.open(1, request.stream, request.target) : Promise.resolve(undefined),
  )
  return { port, dialer, streams, client }
}

async function collect(stream: Duplex): Promise<Buffer> {
  const chunks: Buffer[] = []
  for await (const chunk of stream) chunks.push(chunk as Buffer)
  return Buffer.concat(chunks)
}

const refusedWith = (reason: Refusal) => (error: unknown) => error instanceof DialError && error.reason === reason
const echo = (socket: Socket) => socket.pipe(socket)

test('bytes go there and back whole, though one datagram in fifty is lost', async () => {
  let state = 3
  const loses = () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    return state / 2 ** 32 < 0.02
  }
  const { port, dialer } = await setUp(echo, { loses })
  const stream = await dialer.dial({ host: '127.0.0.1', port })
  const sent = randomBytes(1_000_000)
  stream.end(sent)
  const received = await collect(stream)
  assert.equal(createHash('sha256').update(received).digest('hex'), createHash('sha256').update(sent).digest('hex'))
})

test('each side may end while the other goes on', async () => {
  const { port, dialer } = await setUp(socket => {
    socket.once('end', () => socket.end('after your end'))
    socket.resume()
  })
  const stream = await dialer.dial({ host: '127.0.0.1', port })
  stream.end('I am done')
  assert.equal((await collect(stream)).toString(), 'after your end')
})

test('a reset at the target is a reset at the client, not a clean end', async () => {
  const { port, dialer } = await setUp(socket => socket.once('data', () => socket.resetAndDestroy()))
  const stream = await dialer.dial({ host: '127.0.0.1', port })
  stream.write('x')
  await assert.rejects(collect(stream))
})

test('a client that goes away closes the connection at the target', async () => {
  let gone: Promise<unknown> | undefined
  const { port, dialer } = await setUp(socket => {
    socket.on('error', () => {})
    socket.resume()
    gone = new Promise(resolve => socket.once('close', resolve))
  })
  const stream = await dialer.dial({ host: '127.0.0.1', port })
  stream.write('x')
  while (gone === undefined) await new Promise(resolve => setImmediate(resolve))
  stream.destroy()
  await gone
})

test('five hundred streams at once are all served', async () => {
  const { port, dialer, streams } = await setUp(echo)
  const results = await Promise.all(
    Array.from({ length: 500 }, async (_, i) => {
      const stream = await dialer.dial({ host: '127.0.0.1', port })
      stream.end(`stream ${i}`)
      return (await collect(stream)).toString() === `stream ${i}`
    }),
  )
  assert.equal(results.filter(Boolean).length, 500)
  assert.equal(streams.opened, 500)
})

test('closing the client’s streams resets every one of them at once', async () => {
  const { port, dialer } = await setUp(echo)
  const streams = await Promise.all([1, 2, 3].map(() => dialer.dial({ host: '127.0.0.1', port })))
  const ends = streams.map(stream => assert.rejects(collect(stream)))
  dialer.close()
  await Promise.all(ends)
  await assert.rejects(dialer.dial({ host: '127.0.0.1', port }), refusedWith(REFUSAL.generalFailure))
})

test('a name that points into a private network opens nothing', async () => {
  const names = { 'rebind.example': ['127.0.0.1', '10.0.0.1'], 'metadata.example': ['169.254.169.254'] }
  const { port, dialer } = await setUp(echo, { names })
  await assert.rejects(dialer.dial({ host: 'metadata.example', port: 80 }), refusedWith(REFUSAL.notAllowed))
  await assert.rejects(
    dialer.dial({ host: 'rebind.example', port: port === 80 ? 81 : 80 }),
    refusedWith(REFUSAL.notAllowed),
  )
})

test('of several addresses of a name only an allowed one is dialled', async () => {
  const names: Record<string, string[]> = { 'mixed.example': ['10.0.0.1', '127.0.0.1'] }
  const { port, dialer } = await setUp(echo, { names })
  const stream = await dialer.dial({ host: 'mixed.example', port })
  stream.end('hello')
  assert.equal((await collect(stream)).toString(), 'hello')
})

test('each refusal has its reason', async () => {
  const { port, dialer } = await setUp(echo, { most: 0 })
  await assert.rejects(dialer.dial({ host: '127.0.0.1', port }), refusedWith(REFUSAL.tooMany))
  const other = await setUp(echo)
  await assert.rejects(other.dialer.dial({ host: 'nowhere.example', port: 80 }), refusedWith(REFUSAL.nameNotFound))
  await assert.rejects(other.dialer.dial({ host: '127.0.0.1', port: 1 }), refusedWith(REFUSAL.notAllowed))
  await assert.rejects(other.dialer.dial({ host: 'NOT A NAME', port: 80 }), refusedWith(REFUSAL.notAllowed))
})

test('a port where nobody listens is refused as such', async () => {
  const { server, port } = await origin(echo)
  server.close()
  const policy = new ExitPolicy({ rules: [], ownAddresses: [], allowPrivate: [{ host: '127.0.0.1', port }] })
  const { client, exit } = await joined()
  const streams = new ExitStreams({ policy, maxStreamsPerSession: 4 })
  streams.link(1, () => exit)
  const answer = await streams.open(1, client.create().id, { host: '127.0.0.1', port })
  assert.deepEqual(answer, { kind: 'refused', request: 'openStream', reason: REFUSAL.connectionRefused })
  assert.equal(streams.streams, 0, 'a refused stream is not counted')
})
