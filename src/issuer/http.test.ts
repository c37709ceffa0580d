import assert from 'node:assert/strict'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { startTestIssuer, type TestIssuer } from '#lab/credits/test-issuer.ts'
import { ENDPOINTS, type Endpoint } from './endpoints.ts'
import { IssuerRefusal } from './issuer-client.ts'
import { LIMITS } from './limits.ts'
import { changePassword, logIn, register } from './sign-in.ts'

const person = { issuer: 'issuer.example', name: 'Ada', password: 'correct horse', stretching: 'test' as const }

test('an account is made, logged in to, and recovered with its code', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person, 'RECOVERY-CODE')
  await assert.rejects(register(client, person), refused('nameTaken'))
  const { bearer } = await logIn(client, person)
  assert.deepEqual(await client.ask('account', {}, bearer), { balance: 0 })
  await assert.rejects(logIn(client, { ...person, password: 'wrong' }), /wrong name or password/)
  await assert.rejects(logIn(client, { ...person, name: 'Nobody' }), /wrong name or password/)

  const recovery = await logIn(client, { ...person, password: 'RECOVERY-CODE' }, 'recovery')
  await assert.rejects(client.ask('account', {}, recovery.bearer), refused('notAllowed'))
  await changePassword(client, recovery.bearer, { ...person, password: 'battery staple' })
  await assert.rejects(client.ask('account', {}, bearer), refused('signedOut'), 'all sessions have ended')
  await assert.rejects(logIn(client, person), /wrong name or password/)
  await logIn(client, { ...person, password: 'battery staple' })
  assert.deepEqual(net.faults, [])
})

test('sessions end after a quarter of an hour, and when they are logged out', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person)
  const { bearer, expiresMs } = await logIn(client, person)
  net.clock.now = expiresMs
  await assert.rejects(client.ask('account', {}, bearer), refused('signedOut'))
  const second = await logIn(client, person)
  await client.ask('logOut', {}, second.bearer)
  await assert.rejects(client.ask('account', {}, second.bearer), refused('signedOut'))
})

test('logins of one account are limited, whether it exists or not, and a limit can be changed', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person)
  for (const name of ['Ada', 'Nobody']) {
    for (let i = 0; i < LIMITS.loginsPerAccount; i++)
      await assert.rejects(logIn(client, { ...person, name, password: `guess ${i}` }), /wrong name or password/)
    await assert.rejects(logIn(client, { ...person, name }), refused('tooMany'))
  }
  await net.issuer.limits.set('loginsPerAccount', 100)
  await logIn(client, person)
  net.clock.now += 15 * 60_000
  await net.issuer.tend(net.clock.now)
})

test('a login message that is recorded and repeated gives nothing', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person)
  const { bearer } = await logIn(client, person)
  const answers: unknown[] = []
  const ask = client.ask.bind(client)
  client.ask = (async (...args: Parameters<typeof ask>) => {
    const answer = await ask(...args)
    answers.push(args, answer)
    return answer
  }) as typeof ask
  const second = await logIn(client, person)
  assert.equal(JSON.stringify(answers).includes(second.bearer), false, 'the bearer was never sent')
  assert.notEqual(second.bearer, bearer)
})

test('a voucher is credited over HTTP, and the balance can be seen', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person)
  const { bearer } = await logIn(client, person)
  const [code = ''] = await net.issuer.vouchers.make(1, 9, net.clock.now + 1e9)
  assert.deepEqual(await client.ask('redeemVoucher', { code }, bearer), { credits: 9, balance: 9 })
  await assert.rejects(client.ask('redeemVoucher', { code: 'x' }, bearer), refused('voucherUnknown'))
})

test('the description is OpenAPI 3.1 and has every endpoint', async t => {
  const net = await start(t)
  const document = (await (await fetch(`${net.url}/v1/openapi.json`)).json()) as {
    openapi: string
    paths: Record<string, Record<string, { operationId?: string; security?: unknown; responses: object }>>
  }
  assert.match(document.openapi, /^3\.1\./)
  for (const [name, endpoint] of Object.entries<Endpoint>(ENDPOINTS)) {
    const operation = document.paths[endpoint.path]?.[endpoint.method.toLowerCase()]
    assert.equal(operation?.operationId, name)
    assert.equal(operation?.security !== undefined, endpoint.session !== 'none')
    assert.deepEqual(Object.keys(operation?.responses ?? {}), ['200', '4XX', '5XX'])
  }
})

test('whatever is sent is answered with a 4xx and a reason, and is no fault of the issuer', async t => {
  const net = await start(t)
  const client = net.client()
  await register(client, person)
  const { bearer } = await logIn(client, person)
  const bodies: (string | undefined)[] = [
    ...[undefined, '', '{', 'null', '[]', '"text"', '0', '{"a":1}', `{"name":"${'a'.repeat(64)}"}`],
    ...['{"__proto__":{"x":1}}', '{"constructor":{"prototype":{}}}', `{"code":"${'x'.repeat(1_000)}"}`],
    JSON.stringify({ name: 'a'.repeat(64), kind: 'password', request: 'AAAA' }),
    JSON.stringify({ name: 'a'.repeat(64), kind: 'recovery', request: 'A'.repeat(2_048) }),
    JSON.stringify({ name: 'a'.repeat(64), record: 'AAAA' }),
    JSON.stringify({ state: 'AAAA', request: 'AAAA' }),
    JSON.stringify({ state: 'A'.repeat(100), request: 'A'.repeat(100) }),
    JSON.stringify({ request: 'AAAA' }),
    JSON.stringify({ record: 'AAAA' }),
    JSON.stringify({ offer: '../../etc/passwd' }),
    JSON.stringify({ code: '\u0000' }),
    JSON.stringify({ key: 'A'.repeat(43), blinded: ['_'.repeat(342)] }),
    JSON.stringify({ key: 'A'.repeat(43), blinded: [] }),
    JSON.stringify({ tokens: [] }),
    JSON.stringify({ tokens: Array.from({ length: 257 }, () => 'A'.repeat(472)) }),
    'x'.repeat(300_000),
  ]
  for (const { method, path } of Object.values<Endpoint>(ENDPOINTS)) {
    if (method === 'GET' || path === '/v1/logout') continue
    for (const body of bodies) {
      const response = await fetch(`${net.url}${path}`, {
        method,
        headers: { 'content-type': 'application/json', authorization: `Bearer ${bearer}` },
        ...(body !== undefined && { body }),
      })
      const text = await response.text()
      // A password may be set to what is of OPAQUE's form; nothing else of these is a request.
      const isFine = response.status === 200 && path.endsWith('/start')
      assert.ok(isFine || (response.status >= 400 && response.status < 500), `${path} ${body?.slice(0, 60)}: ${text}`)
      if (!isFine) assert.ok((JSON.parse(text) as { error: { message: string } }).error.message.length > 10, text)
    }
  }
  for (const path of ['/', '/v2', '/v1/withdraw/..', '/%00', `/${'a'.repeat(20_000)}`, '/v1/keys?x=1', '/v1/account'])
    assert.ok((await fetch(`${net.url}${path}`)).status < 500, path)
  for (const authorization of ['Bearer', 'Bearer x', `Basic ${bearer}`, `Bearer ${'A'.repeat(43)}`, 'Bearer \u00ff'])
    assert.equal((await fetch(`${net.url}/v1/account`, { headers: { authorization } })).status, 401)
  const type = await fetch(`${net.url}/v1/accounts`, {
    method: 'POST',
    body: '<x/>',
    headers: { 'content-type': 'text/xml' },
  })
  assert.equal(type.status, 415)
  for (const raw of [
    'GET / HTTP/9.9\r\n\r\n',
    '\u0000\u0001\u0002\r\n\r\n',
    'POST /v1/accounts HTTP/1.1\r\nhost: x\r\ncontent-length: -1\r\n\r\n',
  ])
    assert.match(await sendRaw(net, raw), /^HTTP\/1\.1 [45]\d\d/)
  assert.deepEqual(net.faults, [])
  assert.equal((await client.ask('health', {})).ok, true)
})

async function start(t: TestContext): Promise<TestIssuer> {
  const net = await startTestIssuer()
  t.after(() => net.close())
  return net
}

function refused(code: string): (error: unknown) => boolean {
  return error => error instanceof IssuerRefusal && error.problem === code
}

function sendRaw(net: TestIssuer, bytes: string): Promise<string> {
  return new Promise(resolve => {
    const socket = connect(Number(new URL(net.url).port), '127.0.0.1', () => socket.write(bytes, 'latin1'))
    let text = ''
    socket.on('data', chunk => {
      text += chunk.toString('latin1')
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(text))
    socket.setTimeout(2_000, () => socket.destroy())
  })
}
