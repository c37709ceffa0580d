// Our WireGuard device against the others: Debian's wireguard-go, and the kernel's where there is one. Both ends are in one
// network namespace; theirs has a TUN interface, ours is wireguard-side-worker.ts.

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { fileURLToPath } from 'node:url'
import { systemRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { skipUnless } from '../skip.ts'
import type { Endpoint, Orders, Status } from './wireguard-side-worker.ts'

const WORKER = fileURLToPath(new URL('./wireguard-side-worker.ts', import.meta.url))
const ANSWER_MS = 30_000
const base64 = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

/** Addresses inside the tunnel; theirs answers echo requests, ours is where `receive` sends to. */
const INSIDE = {
  4: { theirs: [10, 88, 0, 1], ours: [10, 88, 0, 2], oursText: '10.88.0.2' },
  6: { theirs: inside6(1), ours: inside6(2), oursText: 'fd88::2' },
} as const
const PREFIXES = [
  { address: [10, 88, 0, 1], bits: 32 },
  { address: inside6(1), bits: 128 },
]

function inside6(last: number): number[] {
  return [0xfd, 0x88, ...new Array<number>(13).fill(0), last]
}

/** Both ends, configured for each other. */
class Pair implements AsyncDisposable {
  readonly #lab = new Namespaces()
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'hoplite-wg-'))
  readonly #name: string
  readonly #outer: 4 | 6
  readonly #theirKeys = x25519FromPrivate(systemRandom(32))
  readonly psk = base64(systemRandom(32))
  #host: Host | undefined
  #worker: ChildProcess | undefined
  #ourKey = ''
  theirPort = 0
  ourPort = 0

  constructor(name: string, outer: 4 | 6) {
    this.#name = `${name}${process.pid.toString(36)}`
    this.#outer = outer
  }

  static async make(kind: 'wireguard-go' | 'kernel', name: string, outer: 4 | 6, extra = {}): Promise<Pair> {
    const pair = new Pair(name, outer)
    try {
      await pair.#start(kind, extra)
      return pair
    } catch (error) {
      await pair[Symbol.asyncDispose]()
      throw error
    }
  }

  async #start(kind: 'wireguard-go' | 'kernel', extra: object): Promise<void> {
    const host = await this.#lab.host(this.#name)
    this.#host = host
    if (kind === 'kernel') await host.ip('link', 'add', this.#name, 'type', 'wireguard')
    else {
      host.start('wireguard-go', ['-f', this.#name], { env: { ...process.env, LOG_LEVEL: 'error' } })
      const socket = `/var/run/wireguard/${this.#name}.sock`
      for (let i = 0; i < 2_400 && !existsSync(socket); i++) await sleep(25)
    }
    const options = { serialization: 'advanced', stdio: ['ignore', 'inherit', 'inherit', 'ipc'] } as const
    this.#worker = host.start(process.execPath, ['--no-warnings', WORKER], { ...options, stdio: [...options.stdio] })
    const opened = await this.order('open', { privateKey: base64(systemRandom(32)), outer: this.#outer, ...extra })
    this.#ourKey = opened.publicKey
    this.ourPort = opened.port
    await host.ip('address', 'add', '10.88.0.1/24', 'dev', this.#name)
    await host.ip('address', 'add', 'fd88::1/64', 'dev', this.#name, 'nodad')
    await host.ip('link', 'set', this.#name, 'up', 'mtu', '1420')
  }

  /** Configures both ends; their end knows ours from the start only when `theyKnowUs`. */
  async introduce(options: { readonly psk?: string; readonly theyKnowUs: boolean; readonly weKnowThem: boolean }) {
    const loopback = this.#outer === 4 ? '127.0.0.1' : '[::1]'
    const lines = [
      ...['[Interface]', `PrivateKey = ${base64(this.#theirKeys.privateKey)}`],
      ...['[Peer]', `PublicKey = ${this.#ourKey}`, 'AllowedIPs = 10.88.0.2/32, fd88::2/128'],
      ...(options.psk === undefined ? [] : [`PresharedKey = ${options.psk}`]),
      ...(options.theyKnowUs ? [`Endpoint = ${loopback}:${this.ourPort}`] : []),
    ]
    const file = path.join(this.#folder, 'wg.conf')
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 })
    await this.wg('setconf', this.#name, file)
    this.theirPort = Number(await this.show('listen-port'))
    await this.order('peer', {
      publicKey: base64(this.#theirKeys.publicKey),
      presharedKey: options.psk ?? base64(new Uint8Array(32)),
      prefixes: PREFIXES,
      ...(options.weKnowThem && { endpoint: this.#endpoint(this.theirPort) }),
    })
  }

  #endpoint(port: number): Endpoint {
    return { address: this.#outer === 4 ? '127.0.0.1' : '::1', port }
  }

  async wg(...words: string[]): Promise<string> {
    return (await this.#host?.run('wg', ...words)) ?? ''
  }

  async set(...words: string[]): Promise<void> {
    await this.wg('set', this.#name, ...words)
  }

  async show(what: string): Promise<string> {
    return (await this.wg('show', this.#name, what)).trim()
  }

  get ourKey(): string {
    return this.#ourKey
  }

  async order<Name extends keyof Orders>(
    name: Name,
    options?: Parameters<Orders[Name]>[0],
  ): Promise<Awaited<ReturnType<Orders[Name]>>> {
    this.#worker?.send({ name, options })
    const [answer] = (await once(this.#worker as ChildProcess, 'message')) as [{ result?: never; error?: string }]
    if (answer.error !== undefined) throw new Error(answer.error)
    return answer.result as Awaited<ReturnType<Orders[Name]>>
  }

  status(): Promise<Status> {
    return this.order('status')
  }

  /** Echo requests through the tunnel; how many were answered. */
  ping(family: 4 | 6, count = 1, size = 100): Promise<number> {
    const { ours, theirs } = INSIDE[family]
    return this.order('ping', { from: ours, to: theirs, count, size, timeoutMs: ANSWER_MS })
  }

  receive(family: 4 | 6, timeoutMs = ANSWER_MS): Promise<boolean> {
    return this.order('receive', { to: INSIDE[family].oursText, timeoutMs })
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#worker?.connected) this.#worker.disconnect()
    await this.#lab[Symbol.asyncDispose]()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function lacks(t: TestContext): boolean {
  const missing = missingForNamespaces('wireguard-go', 'wg')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return true
  return skipUnless(t, existsSync('/dev/net/tun'), 'this machine has no /dev/net/tun')
}

/** What every implementation must do with us. */
async function converse(pair: Pair): Promise<void> {
  await pair.introduce({ theyKnowUs: false, weKnowThem: true })
  assert.equal(await pair.ping(4), 1, 'we initiate, IPv4 inside')
  for (const size of [28, 29, 43, 44, 45, 1_419, 1_420]) assert.equal(await pair.ping(4, 1, size), 1, `${size} bytes`)
  assert.equal(await pair.ping(6, 20, 1_400), 20, 'IPv6 inside')
  assert.equal(await pair.receive(4), true, 'from their side')
  const first = await pair.status()
  assert.deepEqual(first.handshakes, ['initiator'])
  assert.deepEqual(first.drops, {})
  const [, told = ''] = (await pair.show('latest-handshakes')).split('\t')
  assert.ok(Math.abs(Number(told) * 1_000 - (first.latestHandshakeUnixMs ?? 0)) < 3_000)
  const [, theirRx, theirTx] = (await pair.show('transfer')).split('\t')
  assert.deepEqual([Number(theirRx), Number(theirTx)], [first.txBytes, first.rxBytes], 'both count the same bytes')

  await pair.order('advance', { ms: 121_000 })
  assert.equal(await pair.ping(4, 50), 50, 'our keys are old: packets go on while new ones are made')
  assert.equal(await pair.ping(4, 50), 50, 'and under the new ones')
  assert.deepEqual((await pair.status()).handshakes, ['initiator'])

  pair.ourPort = await pair.order('rebind')
  assert.equal(await pair.ping(4), 1, 'we moved to another port')
  assert.match(await pair.show('endpoints'), new RegExp(`:${pair.ourPort}$`))
  await pair.set('listen-port', String(pair.theirPort === 51_899 ? 51_898 : 51_899))
  assert.equal(await pair.receive(4), true, 'they moved to another port')
  assert.equal((await pair.status()).endpoint?.port, pair.theirPort === 51_899 ? 51_898 : 51_899)
  assert.equal(await pair.ping(6), 1, 'and we followed')

  await pair.set('peer', pair.ourKey, 'remove')
  await pair.introduce({ psk: pair.psk, theyKnowUs: true, weKnowThem: false })
  assert.equal(await pair.receive(6), true, 'they initiate, with a pre-shared key, IPv6 inside')
  assert.equal(await pair.ping(4, 20), 20)
  assert.deepEqual((await pair.status()).handshakes, ['responder'])
}

describe('WireGuard with others', { concurrency: true }, () => {
  test('wireguard-go and we talk over IPv4: both roles, PSK, IPv6 inside, renewed keys, roaming of both', async t => {
    if (lacks(t)) return
    await using pair = await Pair.make('wireguard-go', 'wga', 4)
    await converse(pair)
  })

  test('wireguard-go and we talk over IPv6', async t => {
    if (lacks(t)) return
    await using pair = await Pair.make('wireguard-go', 'wgb', 6)
    await converse(pair)
  })

  test('the kernel and we talk', async t => {
    if (lacks(t)) return
    await using lab = new Namespaces()
    const probe = await lab.host('probe')
    const hasKernel = await probe.ip('link', 'add', 'wg0', 'type', 'wireguard').then(
      () => true,
      () => false,
    )
    if (skipUnless(t, hasKernel, 'this kernel has no WireGuard')) return
    await using pair = await Pair.make('kernel', 'wgk', 4)
    await converse(pair)
  })

  test('another pre-shared key: no handshake, in neither role', async t => {
    if (lacks(t)) return
    await using pair = await Pair.make('wireguard-go', 'wgp', 4)
    await pair.introduce({ psk: pair.psk, theyKnowUs: true, weKnowThem: true })
    await pair.set('peer', pair.ourKey, 'preshared-key', '/dev/null')
    await pair.order('initiate')
    assert.equal(await pair.receive(4, 500), false)
    const { wire, handshakes, drops } = await pair.status()
    assert.ok(wire.includes('<2'), 'they answer')
    assert.ok((drops['forgedHandshake'] ?? 0) > 0, 'and we do not believe it')
    assert.deepEqual(handshakes, [])
  })

  test('wireguard-go under load demands a cookie, and takes our handshake with mac2', async t => {
    if (lacks(t)) return
    await using pair = await Pair.make('wireguard-go', 'wgl', 4)
    await pair.introduce({ theyKnowUs: false, weKnowThem: true })
    await pair.order('initiate')
    // A flood may drown our own handshake too, so there are several; the load lasts a second longer than the flood.
    let seen: string[] = []
    for (let i = 0; i < 12 && !/>1\+ (<3 )*<2/.test(seen.join(' ')); i++) {
      await pair.order('flood', { forMs: 150 })
      await sleep(150)
      await pair.order('initiate')
      await sleep(150)
      seen = [...seen, ...(await pair.status()).wire]
    }
    if (skipUnless(t, seen.includes('<3'), 'one socket cannot flood wireguard-go here')) return
    assert.match(seen.join(' '), />1\+ (<3 )*<2/)
    assert.equal(await pair.ping(4), 1)
  })

  test('we under load demand a cookie of wireguard-go, and take its handshake with mac2', async t => {
    if (lacks(t)) return
    await using pair = await Pair.make('wireguard-go', 'wgc', 4, { maxHandshakesPerSecond: 0 })
    await pair.introduce({ theyKnowUs: true, weKnowThem: false })
    assert.equal(await pair.receive(4), true)
    const { wire, drops, handshakes } = await pair.status()
    assert.deepEqual(wire.slice(0, 4), ['<1', '>3', '<1+', '>2'])
    assert.equal(drops['cookieDemanded'], 1)
    assert.deepEqual(handshakes, ['responder'])
  })
})
