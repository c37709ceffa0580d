import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { createSocket, type Socket as UdpSocket } from 'node:dgram'
import { once } from 'node:events'
import { after, test } from 'node:test'
import { setImmediate as turn } from 'node:timers/promises'
import { encodeWindow, INITIAL_WINDOW } from '#wire/stream-window.ts'
import { StreamLink } from './link.ts'
import { type LinkStream, MAX_WINDOW } from './link-stream.ts'
import { WindowBudget } from './window-budget.ts'

const DESTROY = 16
const MESSAGE = 8

/** What happens to a datagram on its way: by default it arrives. */
type Fate = (bytes: Buffer, from: 'a' | 'b') => 'arrives' | 'lost' | 'late'

async function joinedLinks(fate: Fate = () => 'arrives') {
  const [a, b] = [new StreamLink(), new StreamLink()]
  const [tapA, tapB] = await Promise.all([tapOf(a), tapOf(b)])
  let isOver = false
  const carry = (from: 'a' | 'b', to: UdpSocket) => (bytes: Buffer) => {
    const what = fate(bytes, from)
    if (what === 'arrives') to.send(bytes)
    else if (what === 'late') setImmediate(() => isOver || to.send(bytes))
  }
  tapA.on('message', carry('a', tapB))
  tapB.on('message', carry('b', tapA))
  a.attach({ host: '127.0.0.1', port: tapA.address().port })
  b.attach({ host: '127.0.0.1', port: tapB.address().port })
  after(() => {
    a.close()
    b.close()
    isOver = true
    tapA.close()
    tapB.close()
  })
  return { a, b, tapA, tapB }
}

async function tapOf(link: StreamLink): Promise<UdpSocket> {
  const tap = createSocket({ type: 'udp4', recvBufferSize: 4 << 20 })
  tap.on('error', () => {})
  tap.bind(0, '127.0.0.1')
  await once(tap, 'listening')
  tap.connect(link.address.port, link.address.host)
  await once(tap, 'connect')
  return tap
}

function joinedStreams(a: StreamLink, b: StreamLink): [LinkStream, LinkStream] {
  const [x, y] = [a.create(), b.create()]
  a.connect(x, y.id)
  b.connect(y, x.id)
  return [x, y]
}

/** Waits for what events alone cannot tell. */
async function until(holds: () => boolean): Promise<void> {
  for (const start = performance.now(); !holds(); await turn()) {
    if (performance.now() - start > 60_000) throw new Error('it never came true')
  }
}

/** Resolves when a stream is closed, cleanly or not. */
function closed(stream: LinkStream): Promise<void> {
  return new Promise(resolve => stream.once('close', resolve))
}

function codeOf(stream: LinkStream): string | undefined {
  return (stream.errored as NodeJS.ErrnoException | null)?.code
}

/** Reads to the end, and leaves the other direction open. */
async function hashOf(stream: LinkStream): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256')
  let bytes = 0
  for await (const chunk of stream.iterator({ destroyOnReturn: false }) as AsyncIterable<Buffer>) {
    bytes += chunk.length
    hash.update(chunk)
  }
  return { bytes, sha256: hash.digest('hex') }
}

function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return state / 2 ** 32
  }
}

function pattern(length: number, seed: number): Buffer {
  const random = randomFrom(seed)
  const bytes = Buffer.alloc(length)
  for (let i = 0; i + 4 <= length; i += 4) bytes.writeUInt32LE(Math.floor(random() * 2 ** 32), i)
  return bytes
}

test('eight megabytes arrive whole, and the window grows for a reader that keeps up', async () => {
  const { a, b } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  const sent = pattern(8_000_000, 1)
  x.end(sent)
  const got = await hashOf(y)
  assert.equal(got.bytes, sent.length)
  assert.equal(got.sha256, createHash('sha256').update(sent).digest('hex'))
})

test('loss, delay and loss of window messages cost time and no byte', async () => {
  const random = randomFrom(42)
  const { a, b } = await joinedLinks(bytes => {
    const isMessage = ((bytes[2] ?? 0) & MESSAGE) !== 0
    const drawn = random()
    return drawn < (isMessage ? 0.1 : 0.01) ? 'lost' : drawn > 0.95 ? 'late' : 'arrives'
  })
  const [x, y] = joinedStreams(a, b)
  const sent = pattern(600_000, 2)
  x.end(sent)
  assert.equal((await hashOf(y)).sha256, createHash('sha256').update(sent).digest('hex'))
})

test('a reader that stops, stops its sender, and nothing is lost when it goes on', async () => {
  const { a, b } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  const piece = pattern(50_000, 3)
  let offered = 0
  const offer = () => {
    while (offered < 100 && x.write(piece)) offered++
    if (offered === 100 && !x.writableEnded) x.end()
  }
  x.on('drain', offer)
  offer()
  await until(() => y.unreadBytes === INITIAL_WINDOW)
  for (let i = 0; i < 200; i++) await turn()
  assert.equal(y.unreadBytes, INITIAL_WINDOW, 'exactly the first window')
  assert.ok(offered < 10, `the sender took ${offered} of 100 pieces`)
  x.off('drain', offer)
  x.once('drain', () => x.end())
  const { bytes } = await hashOf(y)
  assert.ok(bytes >= INITIAL_WINDOW)
  assert.equal(bytes % piece.length, 0, 'whole pieces')
})

test('a stream of single bytes that nobody reads is held in blocks', async () => {
  const { a, b } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  y.once('readable', () => {})
  for (let i = 0; i < 3_000; i++) {
    x.write(Uint8Array.of(i & 0xff))
    if (i % 50 === 0) await turn()
  }
  x.end()
  await until(() => y.unreadBytes === 3_000)
  const chunks: number[] = []
  let next = 0
  for await (const chunk of y as AsyncIterable<Buffer>) {
    chunks.push(chunk.length)
    for (const byte of chunk) assert.equal(byte, next++ & 0xff)
  }
  assert.equal(next, 3_000)
  assert.ok(chunks.length <= 3, `${chunks.length} chunks`)
})

test('a sender that ignores its window is cut off', async () => {
  const { a, b, tapA } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  const broken = closed(y)
  // A forged window, so that an honest sender does what a hostile one would.
  const header = Buffer.from('ff0108000000000000004000' + '0000000000000000', 'hex')
  header.writeUInt32LE(x.id, 4)
  tapA.send(Buffer.concat([header, encodeWindow({ kind: 'window', limit: 2 ** 40 })]))
  x.write(pattern(3 * INITIAL_WINDOW, 4))
  await broken
  assert.match(y.errored?.message ?? '', /more than its window/)
})

test('each direction ends by itself', async () => {
  const { a, b } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  x.end('question')
  assert.equal((await hashOf(y)).bytes, 8)
  assert.equal(x.readableEnded, false)
  y.write('answer')
  const [answer] = (await once(x, 'data')) as [Buffer]
  assert.equal(answer.toString(), 'answer')
  y.end()
  await Promise.all([closed(x), closed(y)])
  assert.equal(x.errored, null)
  assert.equal(y.errored, null)
  assert.equal(a.streams + b.streams, 0)
})

test('a stream that is destroyed breaks the other side, which sees no clean end', async () => {
  const { a, b } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  x.write('begun')
  await once(y, 'data')
  const ended = { clean: false }
  y.once('end', () => {
    ended.clean = true
  })
  const broken = closed(y)
  x.destroy()
  await broken
  assert.equal(codeOf(y), 'ECONNRESET')
  assert.equal(ended.clean, false)
})

test('a broken stream is known though the packet that says so is lost', async () => {
  let lost = 0
  const { a, b } = await joinedLinks(bytes => (((bytes[2] ?? 0) & DESTROY) !== 0 && lost++ === 0 ? 'lost' : 'arrives'))
  const [x, y] = joinedStreams(a, b)
  x.write('begun')
  await once(y, 'data')
  const gone = closed(x)
  x.destroy()
  await gone
  const broken = closed(y)
  y.write('are you there?')
  await broken
  assert.ok(lost >= 2, 'it was said again')
  assert.equal(codeOf(y), 'ECONNRESET')
})

test('bytes that arrive before the stream is connected are kept, and need not be sent again', async () => {
  let isCut = false
  const { a, b } = await joinedLinks((_bytes, from) => (isCut && from === 'b' ? 'lost' : 'arrives'))
  const [x, y] = [a.create(), b.create()]
  b.connect(y, x.id)
  y.write('220 I speak first')
  await until(() => x.unreadBytes > 0)
  isCut = true
  a.connect(x, y.id)
  const [first] = (await once(x, 'data')) as [Buffer]
  assert.equal(first.toString(), '220 I speak first')
})

test('closing a link breaks its streams at both ends', async () => {
  const { a, b } = await joinedLinks()
  const pairs = Array.from({ length: 20 }, () => joinedStreams(a, b))
  await Promise.all(
    pairs.map(([x, y]) => {
      x.write('x')
      return once(y, 'data')
    }),
  )
  const all = pairs.flat().map(closed)
  a.close()
  await Promise.all(all)
  assert.equal(a.streams + b.streams, 0)
  assert.throws(() => a.create(), /the link is closed/)
})

test('strays from elsewhere and malformed messages are ignored', async () => {
  const { a, b, tapB } = await joinedLinks()
  const [x, y] = joinedStreams(a, b)
  x.write('1')
  await once(y, 'data')
  const random = randomFrom(7)
  for (let length = 0; length < 200; length++) {
    const bytes = Buffer.from(Array.from({ length }, () => Math.floor(random() * 256)))
    if (length > 8 && length % 2 === 0) {
      bytes.set([0xff, 1])
      bytes.writeUInt32LE(length % 4 === 0 ? (y.id ^ 1) >>> 0 : 0, 4)
    }
    tapB.send(bytes)
  }
  x.write('2')
  const [second] = (await once(y, 'data')) as [Buffer]
  assert.equal(second.toString(), '2')
})

test('windows grow only while there is budget, and give it back', () => {
  const all = new WindowBudget(100)
  const [one, two] = [new WindowBudget(80, all), new WindowBudget(80, all)]
  assert.equal(one.take(60), true)
  assert.equal(one.take(30), false, 'more than its own')
  assert.equal(two.take(50), false, 'more than all have')
  assert.equal(two.left, 80)
  assert.equal(two.take(40), true)
  one.give(60)
  assert.equal(two.take(40), true)
  assert.equal(all.left, 20)
})

test('the largest window is one that a message can say', () => {
  assert.equal(encodeWindow({ kind: 'window', limit: MAX_WINDOW }).length, 9)
})
