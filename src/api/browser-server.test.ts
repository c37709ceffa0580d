import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { type ClientRequest, request } from 'node:http'
import test, { type TestContext } from 'node:test'
import { Access } from './access.ts'
import { PAGE_KEY_HEADER, serveBrowser } from './browser-server.ts'
import { EventHub } from './event-hub.ts'
import type { Handlers } from './table.ts'

interface Answer {
  readonly status: number
  readonly headers: Record<string, string | string[] | undefined>
  readonly text: string
}
type Headers = Record<string, string>

const INDEX = { type: 'text/html', bytes: Buffer.from('<!doctype html>'), isImmutable: false }

async function serve(t: TestContext) {
  const handlers: Handlers = {
    traffic: () => ({ at: 0, inward: [], outward: [] }),
    connect: () => ({ connecting: true }),
    login: () => ({ url: 'no' }),
    'entry.file': ({ file }) => ({ file }),
  }
  const access = new Access({ random: n => randomBytes(n), now: Date.now, save: () => {} })
  const events = new EventHub(() => [{ name: 'failover', data: { silentMs: 1, count: 1 } }])
  const node = { handlers, events }
  const assets = async () => new Map([['/index.html', INDEX]])
  const server = await serveBrowser({ node, access, host: '127.0.0.1', port: 0, assets })
  t.after(() => server.close())
  const ask = (path: string, options: { method?: string; headers?: Headers; body?: string } = {}) =>
    new Promise<Answer>((resolve, reject) => {
      const { method = 'POST', headers = {}, body = '{}' } = options
      const sent = request({ host: '127.0.0.1', port: server.port, path, method, headers, agent: false }, response => {
        let text = ''
        response.on('data', chunk => (text += String(chunk)))
        response.on('end', () => resolve({ status: response.statusCode ?? 0, headers: response.headers, text }))
      })
      sent.on('error', reject)
      sent.end(method === 'GET' ? undefined : body)
    })
  const signIn = async (): Promise<Headers> => {
    const { headers, text } = await ask('/login', { body: JSON.stringify({ code: access.newCode() }) })
    const cookie = String(headers['set-cookie']).split(';')[0] ?? ''
    return { cookie, [PAGE_KEY_HEADER]: (JSON.parse(text) as { page: string }).page }
  }
  return { access, ask, signIn, origin: server.origin, port: server.port, events }
}

test('the page opens without a session; the API does not', async t => {
  const { ask } = await serve(t)
  const page = await ask('/', { method: 'GET' })
  assert.deepEqual([page.status, page.text], [200, '<!doctype html>'])
  assert.equal((await ask('/../../etc/passwd', { method: 'GET' })).status, 404)
  for (const path of ['/v1/traffic', '/v1/connect', '/v1/none']) assert.equal((await ask(path)).status, 401, path)
  for (const path of ['/v1/events', '/v1/openapi.json'])
    assert.equal((await ask(path, { method: 'GET' })).status, 401, path)
})

test('every answer forbids scripts from elsewhere, frames, sniffing and referrers', async t => {
  const { ask } = await serve(t)
  for (const { headers } of [await ask('/', { method: 'GET' }), await ask('/v1/traffic')]) {
    assert.match(
      String(headers['content-security-policy']),
      /default-src 'none'; script-src 'self';.*frame-ancestors 'none'/,
    )
    assert.equal(headers['x-content-type-options'], 'nosniff')
    assert.equal(headers['referrer-policy'], 'no-referrer')
    assert.equal(headers['access-control-allow-origin'], undefined)
  }
})

test('a session reads and writes, and cannot hand out access', async t => {
  const { ask, signIn } = await serve(t)
  const headers = await signIn()
  assert.equal((await ask('/v1/traffic', { headers })).status, 200)
  assert.equal((await ask('/v1/connect', { headers })).status, 200)
  assert.equal((await ask('/v1/login', { headers })).status, 403)
})

test('the cookie is for scripts of nobody and for no other site, and does nothing without the page key', async t => {
  const { access, ask, signIn, port } = await serve(t)
  const { headers } = await ask('/login', { body: JSON.stringify({ code: access.newCode() }) })
  assert.match(
    String(headers['set-cookie']),
    new RegExp(`^hoplite-${port}=[\\w-]{43}; Path=/; HttpOnly; SameSite=Strict; Max-Age=`),
  )
  const session = await signIn()
  const { cookie = '' } = session
  assert.equal((await ask('/v1/traffic', { headers: { cookie } })).status, 401)
  const key = session[PAGE_KEY_HEADER] ?? ''
  assert.equal((await ask('/v1/traffic', { headers: { [PAGE_KEY_HEADER]: key } })).status, 401)
})

test('a link works once, and a wrong one not at all', async t => {
  const { access, ask } = await serve(t)
  const body = JSON.stringify({ code: access.newCode() })
  assert.equal((await ask('/login', { body })).status, 200)
  assert.equal((await ask('/login', { body })).status, 401)
  for (const wrong of ['{}', '[]', 'null', '{"code":1}', '{', JSON.stringify({ code: 'x'.repeat(10_000) })])
    assert.equal((await ask('/login', { body: wrong })).status, 400, wrong.slice(0, 20))
})

test('a name that leads here by DNS rebinding is refused, even with a session', async t => {
  const { ask, signIn, port } = await serve(t)
  const session = await signIn()
  for (const host of [
    `evil.example:${port}`,
    'evil.example',
    '127.0.0.1',
    `127.0.0.1:${port + 1}`,
    `127.0.0.1:${port}.evil.example`,
  ]) {
    const headers = { ...session, host }
    assert.equal((await ask('/v1/connect', { headers })).status, 403, host)
    assert.equal((await ask('/', { method: 'GET', headers: { host } })).status, 403, host)
  }
  assert.equal((await ask('/v1/traffic', { headers: { ...session, host: `localhost:${port}` } })).status, 200)
})

test('a page of another site is refused, even with a session; its links still open the page', async t => {
  const { ask, signIn, origin } = await serve(t)
  const session = await signIn()
  const foreign: Headers[] = [
    { origin: 'https://evil.example' },
    { origin: 'null' },
    { origin: 'http://127.0.0.1:9' },
    { 'sec-fetch-site': 'cross-site' },
    { 'sec-fetch-site': 'same-site', 'sec-fetch-mode': 'no-cors' },
  ]
  for (const headers of foreign)
    assert.equal(
      (await ask('/v1/connect', { headers: { ...session, ...headers } })).status,
      403,
      JSON.stringify(headers),
    )
  const ours = { ...session, origin, 'sec-fetch-site': 'same-origin' }
  assert.equal((await ask('/v1/connect', { headers: ours })).status, 200)
  const link = { 'sec-fetch-site': 'cross-site', 'sec-fetch-mode': 'navigate' }
  assert.equal((await ask('/', { method: 'GET', headers: link })).status, 200)
  assert.equal((await ask('/v1/connect', { headers: { ...session, ...link } })).status, 403)
})

test('a token may what it was made for', async t => {
  const { access, ask } = await serve(t)
  const bearer = (permission: 'read' | 'write') => ({
    authorization: `Bearer ${access.createToken('a script', permission)?.token}`,
  })
  const [read, write] = [bearer('read'), bearer('write')]
  assert.equal((await ask('/v1/traffic', { headers: read })).status, 200)
  const refused = await ask('/v1/connect', { headers: read })
  assert.equal(refused.status, 403)
  assert.match(refused.text, /it needs the permission write/)
  assert.equal((await ask('/v1/connect', { headers: write })).status, 200)
  assert.equal((await ask('/v1/login', { headers: write })).status, 403)
  assert.equal((await ask('/v1/traffic', { headers: { authorization: 'Bearer none' } })).status, 401)
})

test('what takes a secret or a responsibility on is for a person at the page, and for no token or other site', async t => {
  const { access, ask, signIn, port } = await serve(t)
  const body = JSON.stringify({ file: '[Interface]' })
  for (const permission of ['read', 'write'] as const) {
    const headers = { authorization: `Bearer ${access.createToken('a script', permission)?.token}` }
    const { status, text } = await ask('/v1/entry.file', { headers, body })
    assert.deepEqual([status, text.includes('hoplite ui')], [403, true], permission)
  }
  const headers = await signIn()
  assert.equal((await ask('/v1/entry.file', { headers, body })).status, 200)
  const elsewhere = { ...headers, origin: 'https://evil.example', 'sec-fetch-site': 'cross-site' }
  assert.equal((await ask('/v1/entry.file', { headers: elsewhere, body })).status, 403)
  const rebound = { ...headers, host: `evil.example:${port}` }
  assert.equal((await ask('/v1/entry.file', { headers: rebound, body })).status, 403)
  const huge = JSON.stringify({ file: 'x'.repeat(200_000) })
  assert.equal((await ask('/v1/entry.file', { headers, body: huge })).status, 400)
})

test('a hundred dashboards hear each event, though one does not read', async t => {
  const { access, ask, port, events } = await serve(t)
  const headers = { authorization: `Bearer ${access.createToken('a script', 'read')?.token}` }
  const open = (onData: ((text: string) => void) | undefined) =>
    new Promise<ClientRequest>((resolve, reject) => {
      const sent = request({ host: '127.0.0.1', port, path: '/v1/events', headers, agent: false }, response => {
        if (onData === undefined) response.pause()
        else response.on('data', chunk => onData(String(chunk)))
        response.on('error', () => {})
        resolve(sent)
      })
      sent.on('error', reject)
      sent.end()
    })
  const heard = Array.from({ length: 100 }, () => '')
  const all = await Promise.all(heard.map((_, i) => open(text => (heard[i] += text))))
  all.push(await open(undefined))
  const hops = Array.from({ length: 40 }, () => ({ id: 'x'.repeat(64) }))
  for (let n = 0; n < 50; n++) {
    events.tell('rtt', { hops })
    await new Promise(resolve => setImmediate(resolve))
  }
  events.tell('failover', { silentMs: 7, count: 7 })
  while (heard.some(text => !text.includes('"count":7'))) await new Promise(resolve => setImmediate(resolve))
  assert.ok(heard.every(text => text.split('event: rtt').length === 51))
  assert.equal((await ask('/v1/traffic', { headers })).status, 200, 'others are served as before')
  for (const sent of all) sent.destroy()
})

test('events are streamed, how things stand first', async t => {
  const { ask: _, access, port, events } = await serve(t)
  const token = access.createToken('a script', 'read')?.token
  const headers = { authorization: `Bearer ${token}` }
  const heard = await new Promise<string>((resolve, reject) => {
    const sent = request({ host: '127.0.0.1', port, path: '/v1/events', headers, agent: false }, response => {
      let text = ''
      response.on('data', chunk => {
        text += String(chunk)
        if (!text.includes('event: rtt')) events.tell('rtt', { hops: [] })
        else {
          resolve(text)
          sent.destroy()
        }
      })
    })
    sent.on('error', reject)
    sent.end()
  })
  assert.match(heard, /^event: failover\ndata: \{"silentMs":1,"count":1\}\n\nevent: rtt\ndata: \{"hops":\[\]\}\n\n/)
})
