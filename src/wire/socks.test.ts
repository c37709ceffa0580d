import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { encodeReply, parseGreeting, parsePassword, parseRequest } from './socks.ts'

/** User and password: the longest. */
const MAX_SOCKS_MESSAGE = 513

const hex = (text: string) => Buffer.from(text, 'hex')

test('a greeting is answered by the strongest way that is offered', () => {
  assert.deepEqual(parseGreeting(hex('050100')), { method: 'none', length: 3 })
  assert.deepEqual(parseGreeting(hex('05020002')), { method: 'password', length: 4 })
  assert.deepEqual(parseGreeting(hex('050101')), { method: 'unacceptable', length: 3 })
  assert.equal(parseGreeting(hex('0500')), 'malformed')
  assert.equal(parseGreeting(hex('0401')), 'malformed')
})

test('user and password are copies, and may be empty', () => {
  const bytes = hex('0101610162')
  const parsed = parsePassword(bytes)
  assert.ok(parsed !== undefined && parsed !== 'malformed')
  bytes.fill(0)
  assert.deepEqual([parsed.user, parsed.password, parsed.length], [Uint8Array.of(0x61), Uint8Array.of(0x62), 5])
  assert.deepEqual(parsePassword(hex('010000')), { user: new Uint8Array(0), password: new Uint8Array(0), length: 3 })
  assert.equal(parsePassword(hex('0501')), 'malformed')
})

test('requests name IPv4, IPv6 and host names', () => {
  const target = (text: string) => {
    const parsed = parseRequest(hex(text))
    return parsed === 'malformed' ? parsed : parsed?.target
  }
  assert.deepEqual(target('05010001c0a800020016'), { host: '192.168.0.2', port: 22 })
  assert.deepEqual(target('0501000420010db80000000000000000000000010050'), { host: '2001:db8::1', port: 80 })
  assert.deepEqual(target('05010004' + '00000000000000000000ffff01020304' + '0050'), { host: '1.2.3.4', port: 80 })
  assert.deepEqual(target('05010003' + '01' + '58' + '0050'), { host: 'x', port: 80 }, 'names are lower case')
  assert.equal(target('05010003' + '00' + '0050'), undefined, 'an empty name')
  assert.equal(
    target('05010003' + '05' + '3078376631' + '0050'),
    undefined,
    'a number that resolvers take for an address',
  )
  assert.equal(target('05010001c0a800020000'), undefined, 'port 0')
  assert.equal(target('0501000901'), undefined, 'an unknown address type')
  assert.equal(target('050101'), 'malformed')
})

test('every part of a message asks for more, and what follows it is left alone', () => {
  for (const [parse, text] of [
    [parseGreeting, '05020002'],
    [parsePassword, '0103626f6205616c696365'],
    [parseRequest, '050100030e7777772e6f736e6577732e636f6d0050'],
    [parseRequest, '0501000420010db80000000000000000000000010050'],
  ] as const) {
    const whole = hex(text)
    for (let length = 0; length < whole.length; length++)
      assert.equal(parse(whole.subarray(0, length)), undefined, `${text} cut to ${length}`)
    const parsed = parse(Buffer.concat([whole, hex('ffff')]))
    assert.ok(parsed !== undefined && parsed !== 'malformed')
    assert.equal(parsed.length, whole.length)
  }
})

test('no bytes make a parser throw, or wait for more than a message can have', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 600 }), fc.integer({ min: 0, max: 5 }), (bytes, version) => {
      if (bytes.length > 0) bytes[0] = version
      for (const parse of [parseGreeting, parsePassword, parseRequest]) {
        const parsed = parse(bytes)
        if (parsed === undefined) assert.ok(bytes.length < MAX_SOCKS_MESSAGE)
        else if (parsed !== 'malformed') assert.ok(parsed.length <= bytes.length)
      }
    }),
    { seed: 1, numRuns: 2_000 },
  )
})

test('a reply names the bound address', () => {
  assert.equal(Buffer.from(encodeReply(5)).toString('hex'), '05050001000000000000')
  assert.equal(
    Buffer.from(encodeReply(0, { host: '::1', port: 1080 })).toString('hex'),
    '050000040000000000000000000000000000000' + '10438',
  )
})
