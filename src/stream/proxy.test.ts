import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, readFileSync } from 'node:fs'
import { createServer as createHttp } from 'node:http'
import { connect } from 'node:net'
import type { Duplex } from 'node:stream'
import { after, before, test } from 'node:test'
import { promisify } from 'node:util'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { REFUSAL, type Target } from '#wire/control.ts'
import { socksUdpTarget } from '#wire/socks-udp.ts'
import { DialError } from './dial-error.ts'
import { ProxyServer } from './proxy.ts'

const run = promisify(execFile)
const dialled: { target: Target; isolation: string }[] = []
let refuseWith: (typeof REFUSAL)[keyof typeof REFUSAL] | undefined
let origin = 0
let proxy: ProxyServer
let port = 0
const http = createHttp((request, response) => response.end(`hello from ${request.headers.host}`))

before(async () => {
  await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
  const address = http.address()
  origin = typeof address === 'object' && address ? address.port : 0
  proxy = new ProxyServer({
    dial: async (target, isolation): Promise<Duplex> => {
      dialled.push({ target, isolation })
      if (refuseWith !== undefined) throw new DialError(refuseWith)
      return connect({ host: '127.0.0.1', port: origin, allowHalfOpen: true })
    },
    associate: async () => ({ address: { host: '127.0.0.1', port: 5353 }, close: () => {} }),
  })
  port = (await proxy.listen('127.0.0.1', 0)).port
})
after(async () => {
  await proxy.close()
  http.close()
})

/** Sends pieces one after the other and collects what comes back until the proxy closes. */
async function exchange(...pieces: readonly Uint8Array[]): Promise<Buffer> {
  const socket = connect({ host: '127.0.0.1', port })
  const chunks: Buffer[] = []
  socket.on('data', (chunk: Buffer) => chunks.push(chunk))
  socket.on('error', () => {})
  const closed = new Promise<void>(resolve => socket.once('close', () => resolve()))
  for (const piece of pieces) {
    await new Promise<void>(resolve => socket.write(piece, () => resolve()))
    await new Promise(resolve => setImmediate(resolve))
  }
  socket.end()
  await closed
  return Buffer.concat(chunks)
}

test('curl fetches through SOCKS5 with the name passed on as it is', async t => {
  if (skipUnless(t, hasTool('curl'), 'curl is not installed', { tool: 'curl' })) return
  const { stdout } = await run('curl', ['-s', '-x', `socks5h://127.0.0.1:${port}`, 'http://some.name.example/'])
  assert.equal(stdout, 'hello from some.name.example')
  assert.deepEqual(dialled.at(-1), { target: { host: 'some.name.example', port: 80 }, isolation: '' })
})

test('curl fetches through HTTP CONNECT, and credentials choose the route', async t => {
  if (skipUnless(t, hasTool('curl'), 'curl is not installed', { tool: 'curl' })) return
  const fetch = async (user: string) => {
    await run('curl', ['-s', '-p', '-x', `http://127.0.0.1:${port}`, '-U', user, 'http://some.name.example/'])
    return dialled.at(-1)?.isolation
  }
  const [a, b, again] = [await fetch('a:1'), await fetch('b:1'), await fetch('a:1')]
  assert.notEqual(a, '')
  assert.notEqual(a, b)
  assert.equal(a, again)
})

test('SOCKS5 users are isolated from each other, and the password counts', async t => {
  if (skipUnless(t, hasTool('curl'), 'curl is not installed', { tool: 'curl' })) return
  const keys = new Set<string | undefined>()
  for (const user of ['a:1', 'a:2', 'b:1', 'a1:']) {
    await run('curl', ['-s', '-x', `socks5h://${user}@127.0.0.1:${port}`, 'http://x.example/'])
    keys.add(dialled.at(-1)?.isolation)
  }
  assert.equal(keys.size, 4)
})

test('refusals have the codes of RFC 1928 and of HTTP', async () => {
  const request = Uint8Array.of(5, 1, 0, 5, 1, 0, 3, 1, 0x78, 0, 80)
  const http = Buffer.from('CONNECT x.example:80 HTTP/1.1\r\n\r\n')
  for (const [reason, socks, status] of [
    [REFUSAL.notAllowed, 2, 403],
    [REFUSAL.networkUnreachable, 3, 502],
    [REFUSAL.hostUnreachable, 4, 502],
    [REFUSAL.connectionRefused, 5, 502],
    [REFUSAL.timedOut, 6, 504],
    [REFUSAL.nameNotFound, 4, 502],
    [REFUSAL.tooMany, 1, 503],
  ] as const) {
    refuseWith = reason
    assert.equal((await exchange(request))[3], socks, `reason ${reason}`)
    assert.match((await exchange(http)).toString(), new RegExp(`^HTTP/1.1 ${status} `))
  }
  refuseWith = undefined
})

test('what is not carried is refused with a useful answer', async () => {
  assert.match((await exchange(Buffer.from('GET http://x/ HTTP/1.1\r\n\r\n'))).toString(), /^HTTP\/1.1 405 [^]*SOCKS5/)
  assert.match((await exchange(Buffer.from('CONNECT nonsense HTTP/1.1\r\n\r\n'))).toString(), /^HTTP\/1.1 400 /)
  assert.match(
    (await exchange(Buffer.from(`CONNECT x:1 HTTP/1.1\r\nA: ${'b'.repeat(9_000)}`))).toString(),
    /^HTTP\/1.1 431 /,
  )
  assert.deepEqual([...(await exchange(Uint8Array.of(4, 1, 0, 80, 1, 2, 3, 4, 0)))].slice(0, 2), [0, 0x5b])
  assert.deepEqual([...(await exchange(Uint8Array.of(5, 1, 7)))], [5, 0xff], 'no acceptable method')
  assert.equal((await exchange(Uint8Array.of(5, 1, 0, 5, 2, 0, 1, 1, 2, 3, 4, 0, 80)))[3], 7, 'BIND is not known')
})

test('UDP ASSOCIATE answers with the address of the endpoint', async () => {
  const answer = await exchange(Uint8Array.of(5, 1, 0, 5, 3, 0, 1, 0, 0, 0, 0, 0, 0))
  assert.equal(answer.subarray(2).toString('hex'), '05000001' + '7f000001' + '14e9')
})

test('a handshake cut at every byte boundary works the same', async () => {
  const whole = Buffer.concat([
    Uint8Array.of(5, 2, 0, 2, 1, 1, 0x61, 1, 0x62, 5, 1, 0, 3, 9),
    Buffer.from('x.example'),
    Uint8Array.of(0, 80),
    Buffer.from('GET / HTTP/1.1\r\nHost: early\r\nConnection: close\r\n\r\n'),
  ])
  for (let cut = 1; cut < 40; cut++) {
    const answer = (await exchange(whole.subarray(0, cut), whole.subarray(cut))).toString('latin1')
    assert.match(answer, /hello from early$/, `cut at ${cut}`)
  }
})

test('recorded SOCKS sessions are understood', async t => {
  const file = new URL('../../../shared/vectors/configs-socks-dns/socks/sessions.json', import.meta.url)
  if (!existsSync(file)) return t.skip('the third-party vectors are not beside the repository')
  const { sessions } = wrap(JSON.parse(readFileSync(file, 'utf8')))
  const targets: string[] = []
  for (const { segments } of sessions) {
    const sent = Buffer.concat(segments.filter(({ dir }) => dir === 'client').map(({ hex }) => Buffer.from(hex, 'hex')))
    if (sent[0] !== 5) continue
    // The first 80 bytes hold the whole handshake, whatever the recorded client said after it.
    for (let cut = 1; cut < Math.min(sent.length, 80); cut++) await exchange(sent.subarray(0, cut), sent.subarray(cut))
    const { host, port } = dialled.at(-1)?.target ?? { host: '', port: 0 }
    targets.push(`${host}:${port}`)
  }
  assert.deepEqual(targets, ['www.osnews.com:80', '192.168.0.2:22'])
})

test('garbage of every kind ends its own connection and nothing else', async () => {
  const before = proxy.connections
  await Promise.all(
    Array.from({ length: 300 }, async (_, i) => {
      const bytes = randomBytes(1 + (i % 200))
      if (i % 3 === 0) bytes[0] = 5
      if (i % 3 === 1) bytes.write('CONNECT ')
      await exchange(bytes)
    }),
  )
  assert.equal(proxy.connections, before)
  assert.match(
    (
      await exchange(
        Buffer.from(`CONNECT x.example:80 HTTP/1.1\r\n\r\nGET / HTTP/1.1\r\nHost: y\r\nConnection: close\r\n\r\n`),
      )
    ).toString(),
    /hello from y$/,
  )
})

test('the header of a SOCKS5 datagram names its target, and fragments are refused', () => {
  const header = (hex: string) => socksUdpTarget(Buffer.from(hex, 'hex'))
  assert.deepEqual(header('00000001' + '01020304' + '0035'), { host: '1.2.3.4', port: 53 })
  assert.deepEqual(header('00000003' + '01' + '78' + '0035'), { host: 'x', port: 53 })
  assert.deepEqual(header('00000004' + '20010db8000000000000000000000001' + '0035'), { host: '2001:db8::1', port: 53 })
  for (const bad of [
    '',
    '000001010102030400 35'.replace(' ', ''),
    '00000001010203040000',
    '0000000101020304',
    '00000003000035',
    '0000000500',
  ]) {
    assert.equal(header(bad), undefined, bad)
  }
})

interface Recorded {
  segments: { dir: 'client' | 'server'; hex: string }[]
}

function wrap(file: Recorded[] | { sessions: Recorded[] }): { sessions: Recorded[] } {
  return Array.isArray(file) ? { sessions: file } : file
}
