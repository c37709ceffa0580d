import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { type TestContext, test } from 'node:test'
import { IssuerClient } from '#issuer/issuer-client.ts'
import { startTestIssuer } from '#lab/credits/test-issuer.ts'
import type { Target } from '#wire/control.ts'
import { defaultConfig } from '../config.ts'
import { askThrough, type Dial, issuerWay } from './issuer-way.ts'

test('the issuer is asked through streams that somebody else dials, one for each request', async t => {
  const { url } = await issuer(t)
  const dialled: Target[] = []
  const client = new IssuerClient({ url: 'http://issuer.example:8080', ask: askThrough(exitTo(url, dialled)) })
  const { directory } = await client.ask('keys', {})
  assert.ok(directory.length > 0)
  await assert.rejects(client.ask('account', {}, 'nobody'), { code: 'ISSUER_REFUSED', problem: 'signedOut' })
  assert.deepEqual(dialled, [
    { host: 'issuer.example', port: 8_080 },
    { host: 'issuer.example', port: 8_080 },
  ])
})

test('a secure issuer is asked in TLS, by its name', async () => {
  const dialled: Target[] = []
  const plain = await startTestIssuer()
  const ask = askThrough(exitTo(plain.url, dialled))
  const client = new IssuerClient({ url: 'https://issuer.example', ask, attempts: 1 })
  await assert.rejects(client.ask('keys', {}), { code: 'ISSUER_UNREACHABLE' }, 'what answers speaks no TLS')
  assert.deepEqual(dialled, [{ host: 'issuer.example', port: 443 }])
  await plain.close()
})

test('a stream that fails is tried again, and then told', async () => {
  let dials = 0
  const dial = () => Promise.reject(new Error(`no route could carry it, ${++dials}`))
  const wait = () => Promise.resolve()
  const client = new IssuerClient({ url: 'http://issuer.example', ask: askThrough(dial), attempts: 3, wait })
  await assert.rejects(client.ask('keys', {}), { code: 'ISSUER_UNREACHABLE', message: /no route could carry it, 3/ })
})

test('without routes nothing is asked, unless the configuration says directly', async t => {
  const { url } = await issuer(t)
  const config = defaultConfig()
  const alone = new IssuerClient({ url, ask: issuerWay(config) })
  await assert.rejects(alone.ask('keys', {}), { code: 'NO_ROUTE' })
  const credit = { ...config.credit, issuer_access: 'direct' as const }
  const direct = new IssuerClient({ url, ask: issuerWay({ ...config, credit }) })
  assert.ok((await direct.ask('keys', {})).directory.length > 0)
})

async function issuer(t: TestContext) {
  const started = await startTestIssuer()
  t.after(() => started.close())
  return started
}

/** Streams that end at a server, whatever they were dialled for. */
function exitTo(url: string, dialled: Target[]): Dial {
  const { hostname, port } = new URL(url)
  return async target => {
    dialled.push(target)
    const socket = connect(Number(port), hostname)
    await once(socket, 'connect')
    return socket
  }
}
