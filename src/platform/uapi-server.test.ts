import assert from 'node:assert/strict'
import { execFile, spawn } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { promisify } from 'node:util'
import { HopliteError } from '#api/errors.ts'
import { Secret } from '#bytes/secret.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { hasTool, skipUnless } from '#lab/skip.ts'
import { formatPrefix } from '#wire/ip-prefix.ts'
import { ERRNO, type PeerChange, type UapiOperation } from '#wire/uapi.ts'
import { formatWgQuick, parseWgQuick } from '#wire/wg-quick.ts'
import { formatKey } from '#wire/wireguard-key.ts'
import { type DeviceSnapshot, type PeerSnapshot, serveUapi, type UapiDevice } from './uapi-server.ts'

const run = promisify(execFile)

/** A device that is nothing but its settings. */
class Settings implements UapiDevice {
  #privateKey: Secret | undefined
  listenPort = 0
  fwmark = 0
  readonly peers = new Map<string, PeerSnapshot>()

  get(): DeviceSnapshot {
    const { listenPort, fwmark, peers } = this
    const rest = { listenPort, fwmark, peers: [...peers.values()] }
    return this.#privateKey === undefined ? rest : { privateKey: this.#privateKey, ...rest }
  }

  set(operations: readonly UapiOperation[]): number {
    for (const operation of operations) {
      if (operation.kind === 'privateKey') this.#privateKey = operation.key === 'none' ? undefined : operation.key
      if (operation.kind === 'listenPort') this.listenPort = operation.port
      if (operation.kind === 'fwmark') this.fwmark = operation.mark
      if (operation.kind === 'replacePeers') this.peers.clear()
      if (operation.kind === 'removePeer') this.peers.delete(formatKey(operation.publicKey))
      if (operation.kind === 'peer') this.#change(operation)
      if (operation.kind === 'listenPort' && operation.port === 666) return ERRNO.addressInUse
    }
    return 0
  }

  #change(change: PeerChange): void {
    const id = formatKey(change.publicKey)
    const old = this.peers.get(id)
    if (old === undefined && change.isUpdateOnly) return
    const { presharedKey = change.presharedKey, ...kept } = old ?? NEW_PEER
    const ips = new Map((change.replacesAllowedIps ? [] : kept.allowedIps).map(ip => [formatPrefix(ip), ip]))
    for (const { isRemoved, ...ip } of change.allowedIps) {
      if (isRemoved) ips.delete(formatPrefix(ip))
      else ips.set(formatPrefix(ip), ip)
    }
    const key = change.presharedKey ?? presharedKey
    this.peers.set(id, {
      ...kept,
      publicKey: change.publicKey,
      ...(key === undefined || key === 'none' ? {} : { presharedKey: key }),
      ...(change.endpoint === undefined ? {} : { endpoint: change.endpoint }),
      persistentKeepaliveSeconds: change.persistentKeepaliveSeconds ?? kept.persistentKeepaliveSeconds,
      allowedIps: [...ips.values()],
    })
  }
}

const NEW_PEER: Omit<PeerSnapshot, 'publicKey'> = {
  lastHandshakeUnixMs: 0,
  rxBytes: 0,
  txBytes: 0,
  persistentKeepaliveSeconds: 0,
  allowedIps: [],
  protocolVersion: 1,
}

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-uapi-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

async function serve(t: TestContext, device: UapiDevice, patienceMs = 10_000): Promise<string> {
  const server = await serveUapi('wg0', device, { directory: path.join(temporary(t), 'run'), patienceMs })
  t.after(() => server.close())
  return server.socket
}

/** Sends `text`, closes that side, and gives everything that came. */
async function ask(socket: string, text: string): Promise<string> {
  const client = connect({ path: socket, allowHalfOpen: true })
  client.end(text)
  let answer = ''
  for await (const chunk of client) answer += String(chunk)
  return answer
}

async function answered(client: Socket, end = '\n\n'): Promise<string> {
  let answer = ''
  while (!answer.endsWith(end)) answer += String((await once(client, 'data'))[0])
  return answer
}

const isInUse = (error: unknown) => error instanceof HopliteError && error.code === 'ADDRESS_IN_USE'

test('requests are answered in their order, on a socket that only its owner can open', async t => {
  const device = new Settings()
  const socket = await serve(t, device)
  assert.equal(statSync(socket).mode & 0o777, 0o600)
  assert.equal(statSync(path.dirname(socket)).mode & 0o777, 0o700)
  assert.equal(
    await ask(
      socket,
      'set=1\nlisten_port=5\n\nget=1\n\nset=1\nlisten_port=x\n\nset=1\nlisten_port=666\n\nnonsense\n\n',
    ),
    'errno=0\n\nlisten_port=5\nerrno=0\n\nerrno=-22\n\nerrno=-98\n\nerrno=-71\n\n',
  )
  assert.equal(await ask(socket, 'get=1\n'), '')
})

test('several clients are served side by side, and one beyond the bound is turned away', async t => {
  const socket = await serve(t, new Settings())
  const clients: Socket[] = []
  t.after(() => clients.map(client => client.destroy()))
  for (let i = 0; i < 16; i++) {
    const client = connect(socket)
    clients.push(client)
    await once(client, 'connect')
  }
  for (const client of clients.toReversed()) {
    client.write('get=1\n\n')
    assert.equal(await answered(client), 'errno=0\n\n')
  }
  const late = connect(socket)
  late.on('error', () => {})
  await once(late, 'close')
})

test('a client that stops in a request, or does not read, is cut', async t => {
  const publicKey = new Uint8Array(32).fill(7)
  const allowedIps = Array.from({ length: 20_000 }, (_, i) => ({ address: `10.0.${i >> 8}.${i & 255}`, prefix: 32 }))
  const large: DeviceSnapshot = { listenPort: 1, fwmark: 0, peers: [{ ...NEW_PEER, publicKey, allowedIps }] }
  let asked = 0
  const device: UapiDevice = {
    get: () => {
      asked++
      return large
    },
    set: () => 0,
  }
  const socket = await serve(t, device, 100)
  const silent = connect(socket)
  silent.on('error', () => {})
  silent.write('set=1\nlisten_port=')
  await once(silent.resume(), 'close')
  // Its questions do not fit into what the system holds either: that they fail is how it learns of its end.
  const slow = connect(socket).pause()
  slow.write('get=1\n\n'.repeat(600_000))
  await assert.rejects(once(slow, 'close'), /EPIPE|ECONNRESET/)
  assert.ok(asked < 20, `${asked} answers for a client that reads none`)
})

test('a request that never ends is cut at 1 MiB, and the next client is served', async t => {
  const socket = await serve(t, new Settings())
  const client = connect(socket)
  const closed = new Promise(resolve => client.once('close', resolve))
  client.on('error', () => {})
  client.write('set=1\n')
  client.write(`x=${'x'.repeat(2 * 1024 * 1024)}\n`)
  await closed
  assert.equal(await ask(socket, 'get=1\n\n'), 'errno=0\n\n')
})

test('a device that fails is an errno, and its words stay inside', async t => {
  const fail = () => {
    throw new Error('secret words')
  }
  const socket = await serve(t, { get: fail, set: fail })
  assert.equal(await ask(socket, 'get=1\n\nset=1\n\n'), 'errno=5\n\nerrno=-5\n\n')
})

test('the socket of a dead process is replaced, and that of a living one is refused', async t => {
  const directory = temporary(t)
  const socket = path.join(directory, 'wg0.sock')
  const program = `require('node:net').createServer().listen(${JSON.stringify(socket)}, () => process.stdout.write('on'))`
  const child = spawn(process.execPath, ['-e', program], { stdio: ['ignore', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  await assert.rejects(serveUapi('wg0', new Settings(), { directory }), isInUse)
  const gone = once(child, 'exit')
  child.kill('SIGKILL')
  await gone
  assert.ok(existsSync(socket))
  const server = await serveUapi('wg0', new Settings(), { directory })
  await assert.rejects(serveUapi('wg0', new Settings(), { directory }), isInUse)
  assert.equal(await ask(socket, 'get=1\n\n'), 'errno=0\n\n')
  await server.close()
  assert.equal(existsSync(socket), false)
  writeFileSync(socket, 'not a socket')
  await assert.rejects(serveUapi('wg0', new Settings(), { directory }), isInUse)
  assert.ok(existsSync(socket))
})

test('a name that is none, and a directory that is none, are told apart', async t => {
  const directory = temporary(t)
  for (const name of ['', '.', '..', 'a/b', 'sixteen-letters-', 'a b', 'a\0'])
    await assert.rejects(serveUapi(name, new Settings(), { directory }), TypeError, name)
  writeFileSync(path.join(directory, 'file'), '')
  const isUnreadable = (error: unknown) => error instanceof HopliteError && error.code === 'STATE_UNREADABLE'
  await assert.rejects(serveUapi('wg0', new Settings(), { directory: path.join(directory, 'file') }), isUnreadable)
})

test('the real wg shows, sets and prints an interface of ours', async t => {
  if (skipUnless(t, hasTool('wg'), 'wg is not installed', { tool: 'wireguard-tools' })) return
  if (skipUnless(t, process.getuid?.() === 0, 'wg looks in a directory of root')) return
  const name = `hopl-${randomBytes(4).toString('hex')}`
  const device = new Settings()
  const server = await serveUapi(name, device)
  t.after(() => server.close())
  const wg = async (...args: readonly string[]) => (await run('wg', args)).stdout
  const files = temporary(t)
  const file = (title: string, text: string) => {
    writeFileSync(path.join(files, title), text, { mode: 0o600 })
    return path.join(files, title)
  }
  const own = generateX25519()
  const peer = formatKey(generateX25519().publicKey)
  const shared = formatKey(new Uint8Array(32).fill(9))

  assert.ok((await wg('show', 'interfaces')).trim().split(/\s+/).includes(name))
  await wg(
    ...['set', name, 'listen-port', '51820', 'fwmark', '0x10', 'private-key', file('own', formatKey(own.privateKey))],
    ...['peer', peer, 'preshared-key', file('shared', shared), 'endpoint', '[2001:db8::1]:51820'],
    ...['persistent-keepalive', '25', 'allowed-ips', '10.0.0.0/8,2001:db8::/32'],
  )
  assert.deepEqual(device.get().privateKey?.bytes, new Uint8Array(own.privateKey))
  assert.equal(await wg('show', name, 'public-key'), `${formatKey(own.publicKey)}\n`)
  assert.equal(
    await wg('show', name, 'dump'),
    `${formatKey(own.privateKey)}\t${formatKey(own.publicKey)}\t51820\t0x10\n` +
      `${peer}\t${shared}\t[2001:db8::1]:51820\t10.0.0.0/8,2001:db8::/32\t0\t0\t0\t25\n`,
  )
  const printed = await wg('showconf', name)
  const config = parseWgQuick(Buffer.from(printed))
  assert.ok(!('error' in config))
  assert.deepEqual(config.peers[0]?.allowedIps, [...device.peers.values()][0]?.allowedIps)
  assert.deepEqual(config.interface.privateKey?.bytes, new Uint8Array(own.privateKey))

  await wg('set', name, 'peer', peer, 'preshared-key', '/dev/null', 'allowed-ips', '')
  assert.match(await wg('show', name), /listening port: 51820\n {2}fwmark: 0x10\n\npeer: .*\n {2}endpoint: \[2001/)
  await wg('set', name, 'peer', peer, 'remove')
  assert.equal(device.peers.size, 0)

  await wg('setconf', name, file('conf', printed))
  assert.equal(await wg('showconf', name), printed)
  await wg('syncconf', name, file('conf', printed))
  await wg('setconf', name, file('empty', '[Interface]\n'))
  assert.deepEqual(device.get(), { listenPort: 0, fwmark: 0, peers: [] })
  await assert.rejects(wg('set', name, 'listen-port', '666'), /Address already in use/)
})

test('what we print for wg-quick, wg-quick takes', async t => {
  if (skipUnless(t, hasTool('wg-quick'), 'wg-quick is not installed', { tool: 'wireguard-tools' })) return
  if (skipUnless(t, process.getuid?.() === 0, 'wg looks in a directory of root')) return
  const name = `hopl-${randomBytes(4).toString('hex')}`
  const device = new Settings()
  const server = await serveUapi(name, device)
  t.after(() => server.close())
  const files = temporary(t)
  const { privateKey } = generateX25519()
  const written = {
    interface: {
      ...{
        privateKey: new Secret(privateKey),
        listenPort: 7,
        fwmark: 51820,
        addresses: [{ address: '::1', prefix: 64 }],
      },
      ...{ dnsServers: ['192.0.2.1'], dnsSearch: ['a.example'], mtu: 1400, saveConfig: true },
      table: { kind: 'name', name: 'main' } as const,
    },
    peers: [
      {
        ...{ publicKey: new Uint8Array(32).fill(2), presharedKey: new Secret(new Uint8Array(32).fill(3)) },
        allowedIps: [
          { address: '0.0.0.0', prefix: 0 },
          { address: '2001:db8::', prefix: 32 },
        ],
        ...{ endpoint: { host: '2001:db8::1', port: 443 }, persistentKeepaliveSeconds: 25 },
      },
      { publicKey: new Uint8Array(32).fill(4), allowedIps: [], persistentKeepaliveSeconds: 0 },
    ],
    hooks: [{ when: 'PostUp', command: 'echo %i; true' } as const],
  }
  writeFileSync(path.join(files, 'wg0.conf'), formatWgQuick(written), { mode: 0o600 })
  const { stdout } = await run('wg-quick', ['strip', path.join(files, 'wg0.conf')])
  assert.doesNotMatch(stdout, /Address|DNS|MTU|Table|SaveConfig|PostUp/)
  writeFileSync(path.join(files, 'stripped'), stdout, { mode: 0o600 })
  await run('wg', ['setconf', name, path.join(files, 'stripped')])
  assert.deepEqual(device.get().privateKey?.bytes, new Uint8Array(privateKey))
  assert.equal(device.listenPort, 7)
  assert.equal(device.fwmark, 51820)
  assert.deepEqual(
    device.get().peers,
    written.peers.map(peer => ({ ...NEW_PEER, ...peer })),
  )
})
