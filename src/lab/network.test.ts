import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { createSocket } from 'node:dgram'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { callAction } from '#api/client.ts'
import { systemRandom } from '#crypto/random.ts'
import { socketPath } from '#platform/state/directories.ts'
import { parseAddress } from '#wire/address.ts'
import { decodeStun, encodeStun, STUN_ATTRIBUTE, STUN_METHOD, stunAttribute } from '#wire/stun.ts'
import { readXorAddress } from '#wire/stun-value.ts'
import type { DemoResult } from './demo.ts'
import { fetchThrough, socksConnect } from './socks-client.ts'
import { FOUR_RELAYS, Testnet, waitFor } from './testnet.ts'

const run = promisify(execFile)
const COMMAND = fileURLToPath(new URL('../../bin/hoplite.cjs', import.meta.url))
const isLinux = process.platform === 'linux'

/** Runs the command with `folder` for temporary files; its exit code, and what it printed. */
async function hoplite(folder: string, ...args: string[]): Promise<{ code: number; stdout: string; stderr: string }> {
  const env = { ...process.env, TMPDIR: folder }
  try {
    return { code: 0, ...(await run(process.execPath, [COMMAND, ...args], { timeout: 300_000, env })) }
  } catch (error) {
    const { code, stdout, stderr } = error as { code: number; stdout: string; stderr: string }
    return { code, stdout, stderr }
  }
}

test('the demo, once: a page through three hops, read by nobody else, and nothing left behind', {
  skip: !isLinux && 'all of 127/8 is loopback only on Linux',
}, async t => {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-demo-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const { code, stdout } = await hoplite(folder, 'demo', '--once', '--json', '--port', '0')
  assert.equal(stdout.trim().split('\n').length, 1, 'one line')
  const result = JSON.parse(stdout) as DemoResult
  assert.equal(code, 0, stdout)
  assert.equal(result.ok, true)
  assert.equal(result.fetch.status, 200)
  assert.match(result.fetch.sha256, /^[0-9a-f]{64}$/)
  assert.equal(new Set(result.hops.map(({ operator }) => operator)).size, 3)
  const relays = result.observed.filter(({ role }) => role === 'relay')
  assert.equal(relays.filter(({ couldRead }) => couldRead).length, 1, 'the exit')
  assert.equal(
    result.observed.some(({ role, saw }) => role !== 'client' && saw.includes('client') && saw.includes('origin')),
    false,
  )
  const left = readdirSync(folder).filter(name => name.startsWith('hoplite-'))
  assert.deepEqual(left, [])
})

describe('a network of processes', { skip: !isLinux && 'all of 127/8 is loopback only on Linux' }, () => {
  // Below what the system gives to those who ask for any.
  const websocketPort = 20_000 + (process.pid % 10_000)
  let net: Testnet
  before(async () => {
    net = await Testnet.start({ relays: FOUR_RELAYS, hops: 3, proxyPort: 0, observe: true, websocketPort })
  })
  after(() => net.stop())

  test('datagrams of a SOCKS5 association go through the route and come back', async () => {
    const control = connect(await net.proxy())
    const read = () => new Promise<Buffer>(resolve => control.once('data', resolve))
    control.write(Uint8Array.of(5, 1, 0))
    await read()
    control.write(Uint8Array.of(5, 3, 0, 1, 0, 0, 0, 0, 0, 0))
    const reply = await read()
    assert.equal(reply[1], 0)
    const socket = createSocket('udp4')
    const header = Buffer.concat([
      Uint8Array.of(0, 0, 0, 1),
      Buffer.from(net.originHost.split('.').map(Number)),
      Buffer.from([net.originUdpPort >> 8, net.originUdpPort & 0xff]),
    ])
    const answers: string[] = []
    socket.on('message', message => {
      assert.deepEqual(message.subarray(0, 10), header)
      answers.push(message.subarray(10).toString())
    })
    const send = (text: string) =>
      socket.send(Buffer.concat([header, Buffer.from(text)]), reply.readUInt16BE(8), '127.0.0.1')
    // Datagrams are not repeated: what is sent while the flow is opened may be lost.
    await waitFor(async () => {
      send('opens the flow')
      return answers.length > 0 ? true : undefined
    }, 'the first echo')
    // On a machine that is too busy for them some are dropped; those are sent again.
    const texts = Array.from({ length: 20 }, (_, i) => `datagram ${i}`)
    await waitFor(async () => {
      const missing = texts.filter(text => !answers.includes(text))
      missing.forEach(send)
      return missing.length === 0 ? true : undefined
    }, 'every echo')
    socket.close()
    control.destroy()
  })

  test('a relay says on its own port where a question came from', async () => {
    const relay = net.nodes.find(({ role }) => role === 'relay')
    assert.ok(relay !== undefined)
    const [address] = (await net.status(relay))?.listening['udp'] ?? []
    const server = parseAddress(address ?? '')
    assert.ok(server !== undefined)
    const socket = createSocket('udp4').bind(0, '127.0.0.1')
    const question = { class: 'request' as const, method: STUN_METHOD.binding, transaction: systemRandom(12) }
    const answered = once(socket, 'message')
    socket.send(encodeStun({ ...question, attributes: [] }), server.port, server.host)
    const [bytes] = (await answered) as [Buffer]
    const answer = decodeStun(bytes)
    const mapped = answer && readXorAddress(stunAttribute(answer, STUN_ATTRIBUTE.xorMappedAddress), answer.transaction)
    assert.deepEqual(mapped, { host: '127.0.0.1', port: socket.address().port })
    socket.close()
  })

  test('different users have different routes, the same user the same', async () => {
    const proxy = await net.proxy()
    for (const user of ['alice', 'bob', 'alice']) {
      const { status } = await fetchThrough(proxy, net.originHost, net.originHttpPort, '/page', { user })
      assert.equal(status, 200)
    }
    const routes = (await net.status(net.client))?.routes ?? []
    assert.equal(routes.length, 3, 'one without a user, alice’s and bob’s')
  })

  test('what the exit does not allow is refused with the right code, and nothing private is reached', async () => {
    const proxy = await net.proxy()
    for (const host of ['127.0.0.1', '10.0.0.1', '169.254.169.254', 'localhost']) {
      await assert.rejects(socksConnect(proxy, host, 80), host === 'localhost' ? /reply [24]/ : /reply 2/, host)
    }
  })

  test('a client without UDP has its route by WebSocket', async () => {
    const client = net.startClient('without-udp', '127.10.0.2', 0, [], false)
    await net.waitReady(false, client)
    await callAction(socketPath(client.stateDir), 'observe', { marker: 'nothing is looked for' })
    const { status } = await fetchThrough(await net.proxy(client), net.originHost, net.originHttpPort, '/page')
    assert.equal(status, 200)
    const { addresses } = await callAction(socketPath(client.stateDir), 'observation', {})
    const statuses = await Promise.all(net.relays.map(relay => net.status(relay)))
    const ports = statuses.flatMap(status => status?.listening['udp'] ?? [])
    assert.ok(ports.length === FOUR_RELAYS.length && addresses.length > 0)
    const direct = addresses.filter(address => ports.includes(address))
    assert.deepEqual(direct, [], 'no datagram to or from a relay')
    await net.kill(client)
  })

  test('a relay reads its rules and limits again, and what is open goes on', async () => {
    const exits = net.relays.filter(({ host }) => FOUR_RELAYS.some(plan => plan.host === host && plan.isExit))
    const held = await socksConnect(await net.proxy(), net.originHost, net.originHttpPort)
    const rules = '[[exit.rules]]\naction = "deny"\n'
    const files = exits.map(({ name, stateDir }) => path.join(stateDir, `${name}.toml`))
    const texts = files.map(file => readFileSync(file, 'utf8'))
    const reload = () => Promise.all(exits.map(({ stateDir }) => callAction(socketPath(stateDir), 'reload', {})))
    const fetched = () => fetchThrough(proxy, net.originHost, net.originHttpPort, '/page')
    const proxy = await net.proxy()
    for (const [i, file] of files.entries()) {
      const text = (texts[i] ?? '').replace('capacity_kbit = 100000', 'capacity_kbit = 50000\nmax_sessions = 99')
      writeFileSync(file, `${text.replace(/^allow_private = .*$/m, '')}\n${rules}`)
    }
    try {
      for (const { applied, later } of await reload()) {
        const expected = ['exit.allow_private', 'exit.rules', 'relay.capacity_kbit', 'relay.max_sessions']
        assert.deepEqual([applied.toSorted(), later], [expected, []])
      }
      await assert.rejects(fetched(), /reply 2/, 'what is opened now is refused')
      held.write('GET /page HTTP/1.1\r\nHost: origin\r\nConnection: close\r\n\r\n')
      assert.match((await held.toArray()).join(''), /^HTTP\/1\.1 200/)
    } finally {
      for (const [i, file] of files.entries()) writeFileSync(file, texts[i] ?? '')
      await reload()
    }
    assert.equal((await fetched()).status, 200)
  })

  test('a client starts from its copy of the directory with every bootstrap node dead', async () => {
    const bootstrap = net.nodes.find(({ role }) => role === 'bootstrap')
    assert.ok(bootstrap)
    await net.kill(bootstrap)
    await net.kill(net.client)
    net.startClient()
    await net.waitReady()
    const { status } = await fetchThrough(await net.proxy(), net.originHost, net.originHttpPort, '/page')
    assert.equal(status, 200)
  })

  test('a second daemon on the same state directory refuses, and a damaged state file is set aside', async () => {
    const { stateDir } = net.client
    const refused = await hoplite(tmpdir(), 'daemon', '--json', '--state-dir', stateDir, '--proxy', '127.0.0.1:0')
    assert.equal(refused.code, 75, refused.stdout)
    assert.match(refused.stdout + refused.stderr, /STATE_LOCKED/)
    await net.kill(net.client)
    writeFileSync(path.join(stateDir, 'guards.json'), 'garbage')
    net.startClient()
    await net.waitReady()
    assert.equal(existsSync(path.join(stateDir, 'guards.json.damaged-1')), true)
  })

  test('up, status and down do what they say', async () => {
    const stateDir = path.join(net.directory, 'mine')
    const config = path.join(net.directory, 'mine.toml')
    mkdirSync(stateDir, { mode: 0o700 })
    const relay = net.relays[0]
    assert.ok(relay)
    const control = (await net.status(relay))?.listening['control'] ?? []
    writeFileSync(
      config,
      [
        '[network]',
        'allow_private_addresses = true',
        `bootstrap = ${JSON.stringify(control)}`,
        '[client]',
        'proxy = "127.0.0.1:0"',
        '',
      ].join('\n'),
    )
    const up = await hoplite(tmpdir(), 'up', '--json', '--hops', '2', '--config', config, '--state-dir', stateDir)
    try {
      assert.equal(up.code, 0, up.stdout + up.stderr)
      const status = JSON.parse(up.stdout) as { routes: { hops: unknown[] }[]; listening: { proxy: string[] } }
      assert.equal(status.routes[0]?.hops.length, 2)
      const again = await hoplite(tmpdir(), 'up', '--json', '--config', config, '--state-dir', stateDir)
      assert.equal(again.code, 0, 'it runs already')
      const port = Number(status.listening.proxy[0]?.split(':').at(-1))
      const fetched = await fetchThrough({ host: '127.0.0.1', port }, net.originHost, net.originHttpPort, '/page')
      assert.equal(fetched.status, 200)
      assert.match((await hoplite(tmpdir(), 'status', '--state-dir', stateDir)).stdout, /^client ready/)
    } finally {
      const down = await hoplite(tmpdir(), 'down', '--json', '--state-dir', stateDir)
      assert.deepEqual(JSON.parse(down.stdout), { ok: true, wasRunning: true })
    }
    assert.equal((await hoplite(tmpdir(), 'status', '--json', '--state-dir', stateDir)).code, 69)
    await assert.rejects(callAction(socketPath(stateDir), 'status', {}))
  })
})
