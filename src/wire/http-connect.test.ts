import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeStatus, MAX_HTTP_HEAD, parseConnect } from './http-connect.ts'

const parse = (text: string) => parseConnect(Buffer.from(text, 'latin1'))
const statusOf = (text: string) => {
  const head = parse(text)
  return head?.kind === 'refused' ? head.status : head?.kind
}
const basic = (text: string) => `Proxy-Authorization: Basic ${Buffer.from(text).toString('base64')}\r\n`

test('CONNECT names a target, and what follows the head is left alone', () => {
  const head = 'CONNECT Example.COM:443 HTTP/1.1\r\nHost: x\r\n\r\n'
  assert.deepEqual(parse(`${head}early`), {
    kind: 'connect',
    target: { host: 'example.com', port: 443 },
    credentials: undefined,
    length: head.length,
  })
  for (let length = 0; length < head.length; length++)
    assert.equal(parse(head.slice(0, length)), undefined, `cut to ${length}`)
})

test('targets are names, IPv4 and IPv6 in brackets', () => {
  const target = (authority: string) => {
    const head = parse(`CONNECT ${authority} HTTP/1.0\r\n\r\n`)
    return head?.kind === 'connect' ? `${head.target.host} ${head.target.port}` : head?.status
  }
  assert.equal(target('1.2.3.4:80'), '1.2.3.4 80')
  assert.equal(target('[2001:DB8::1]:80'), '2001:db8::1 80')
  assert.equal(target('[::ffff:1.2.3.4]:80'), '1.2.3.4 80')
  for (const bad of [
    'x',
    'x:',
    'x:0',
    'x:65536',
    ':80',
    '[1.2.3.4]:80',
    '2001:db8::1:80',
    'a b:80',
    '0x7f.1:80',
    '-:1',
  ]) {
    assert.equal(target(bad), 400, bad)
  }
})

test('Basic credentials choose a route, and those that cannot be read are refused', () => {
  const head = parse(`CONNECT x:1 HTTP/1.1\r\n${basic('bob:a:b')}\r\n`)
  assert.ok(head?.kind === 'connect')
  assert.deepEqual(Buffer.from(head.credentials?.user ?? []).toString(), 'bob')
  assert.deepEqual(Buffer.from(head.credentials?.password ?? []).toString(), 'a:b')
  for (const field of [
    'Proxy-Authorization: Digest x\r\n',
    'Proxy-Authorization: Basic !\r\n',
    'proxy-authorization:\r\n',
    basic('no colon'),
    basic('a:b') + basic('c:d'),
  ]) {
    assert.equal(statusOf(`CONNECT x:1 HTTP/1.1\r\n${field}\r\n`), 400, field)
  }
})

test('other methods, other protocols, bad lines and long heads have their status', () => {
  assert.equal(statusOf('GET http://x/ HTTP/1.1\r\n\r\n'), 405)
  assert.equal(statusOf('\x16\x03\x01\x02'), 400)
  assert.equal(statusOf('connect x:1 HTTP/1.1\r\n'), 400)
  assert.equal(statusOf('CONNECT x:1 HTTP/2\r\n\r\n'), 400)
  assert.equal(statusOf('CONNECT x:1 HTTP/1.1\n\n'), 400)
  assert.equal(statusOf('CONNECT x:1 HTTP/1.1\r\nno colon\r\n\r\n'), 400)
  assert.equal(statusOf('CONNECT x:1 HTTP/1.1\r\nA: b\r\n folded\r\n\r\n'), 400)
  assert.equal(statusOf(`CONNECT x:1 HTTP/1.1\r\nA: ${'b'.repeat(MAX_HTTP_HEAD)}`), 431)
})

test('no bytes make the parser throw, or wait for more than a head can have', () => {
  fc.assert(
    fc.property(
      fc.uint8Array({ maxLength: 300 }),
      fc.constantFrom('', 'CONNECT ', 'CONNECT x:1 HTTP/1.1\r\n'),
      (bytes, start) => {
        const head = parseConnect(Buffer.concat([Buffer.from(start), bytes]))
        if (head?.kind === 'connect') assert.ok(head.length <= start.length + bytes.length)
      },
    ),
    { seed: 2, numRuns: 2_000 },
  )
  assert.notEqual(parseConnect(Buffer.alloc(MAX_HTTP_HEAD, 'A')), undefined)
})

test('answers are whole HTTP messages, and 405 says what is allowed', () => {
  for (const status of [400, 403, 405, 431, 502, 503, 504]) {
    const text = Buffer.from(encodeStatus(status)).toString()
    const [head = '', body = ''] = text.split('\r\n\r\n')
    assert.match(head, new RegExp(`^HTTP/1.1 ${status} [A-Z]`))
    assert.match(head, new RegExp(`Content-Length: ${body.length}\r\n`))
  }
  assert.match(Buffer.from(encodeStatus(405)).toString(), /Allow: CONNECT/)
  assert.equal(Buffer.from(encodeStatus(200)).toString(), 'HTTP/1.1 200 Connection established\r\n\r\n')
  assert.match(Buffer.from(encodeStatus(502, 'the name does not exist')).toString(), /the name does not exist\.\n$/)
})
