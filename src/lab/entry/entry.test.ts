// One's own VPN, entered through a stranger, from the command line to the machine's network and back: a client, two peers, a
// `wireguard-go` server and an origin, each in a namespace of its own.

import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { promisify } from 'node:util'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { CLIENT_MARK } from '#platform/linux/network/client-options.ts'
import { detectDnsWay } from '#platform/linux/network/dns.ts'
import { socketPath } from '#platform/state/directories.ts'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { loadBundle } from '#web/bundle.ts'
import { findBarriers, hasBrowser, startBrowserIn } from '../browser.ts'
import { Capture } from '../capture.ts'
import { patternHash } from '../pattern.ts'
import { hasTool, skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { INSIDE, SERVER_PORT } from '../wireguard/wireguard-go.ts'
import { COMMAND, EntryNetwork, type PeerName } from './entry-network.ts'

const execute = promisify(execFile)
const SIZE = 2 * 2 ** 20
/** Slow enough for a peer to die while 2 MiB come. */
const RATE_KBIT = 16_000
/** 1,500 less the headers of IPv4 and UDP, a peer's layer and WireGuard's, a multiple of 16. */
const LONGEST = 1_392
const NETWORK = [
  ['ip', '-4', 'rule'],
  ['ip', '-6', 'rule'],
  ['ip', '-4', 'route', 'show', 'table', 'all'],
  ['ip', '-6', 'route', 'show', 'table', 'all'],
  ['ip', '-brief', 'link'],
  ['nft', 'list', 'ruleset'],
  ['cat', '/etc/resolv.conf'],
]

test('one’s own VPN through a stranger: it carries, survives its peers, and leaves the machine as it was', async t => {
  const missing = EntryNetwork.missing() ?? ['tcpdump', 'nsenter'].find(program => !hasTool(program))
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using network = await EntryNetwork.start({ peers: 2, rateKbit: RATE_KBIT })
  const me = await Machine.start(network)
  const before = await me.network()
  const capture = await Capture.start(
    network.host('vpn'),
    'eth0',
    `ip and (src ${network.address('me')} or (icmp and src ${network.address('web')}))`,
  )
  const straight = () => leaks(network, me, capture)
  assert.ok((await straight()).length > 0, 'without the tunnel packets do go straight')
  const hookFile = path.join(network.state('me'), 'hook-was-run')
  // Other ways to change whom names are asked of would change this machine, and not the one of the test.
  const dns = detectDnsWay() === 'cover' ? ['DNS = 10.66.0.1'] : []
  const file = network.clientFile(network.server, ...dns, `PostUp = touch ${hookFile}`)

  await t.test('it comes up by itself, and the server sees a peer', async () => {
    const text = await me.hoplite('entry', file, '--config', network.clientConfig())
    assert.match(text, /^Connected: hl\w+ enters your VPN through a stranger\./)
    await me.run('ping', '-c', '1', '-W', '20', '10.66.0.1')
    assert.ok(await peerAtServer(network))
    if (dns.length > 0) assert.equal(await me.run('cat', '/etc/resolv.conf'), 'nameserver 10.66.0.1\n')
    assert.ok(!existsSync(hookFile), 'the hook was not run')
    assert.deepEqual(await straight(), [])
  })

  await t.test('packets become as long as one peer and a link of 1,500 bytes carry', async () => {
    await waitFor(async () => ((await me.status()).mtu === LONGEST ? true : undefined), 'longer packets')
    const isSet = async () =>
      / mtu 1392 /.test(await me.run('ip', 'link', 'show', (await me.status()).interface ?? '')) ? true : undefined
    await waitFor(isSet, 'the MTU of the interface')
    await me.run('ping', '-c', '1', '-W', '20', '-M', 'do', '-s', String(LONGEST - 28), INSIDE)
  })

  await t.test('the dashboard shows the way, and what wg shows, in a browser on that machine', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    // In a clone it is built first, which a daemon without rights cannot do.
    await loadBundle()
    const browser = await startBrowserIn(network.host('me').namespace, network.state('me'))
    try {
      const page = await browser.newPage({ reducedMotion: 'reduce' })
      await page.goto((await callAction(socketPath(network.state('me')), 'login', {})).url)
      await page.getByRole('link', { name: 'My VPN' }).click()
      await page.getByText('Your VPN sees a stranger').waitFor()
      const peer = await peerAtServer(network)
      assert.ok(peer)
      const way = page.getByRole('listitem').filter({ hasText: `${peer} · ${network.address(peer)}` })
      await way.first().waitFor()
      await page.getByRole('definition').filter({ hasText: network.server }).waitFor()
      await page
        .getByRole('definition')
        .filter({ hasText: /^\d+ s ago$/ })
        .waitFor()
      await page.getByRole('definition').filter({ hasText: '0.0.0.0/0' }).waitFor()
      assert.deepEqual(await findBarriers(page), [])
    } finally {
      await browser.close()
    }
  })

  await t.test(
    'its peer is killed in the middle of a download, and the connection goes on over the other',
    async () => {
      await waitFor(
        async () => ((await me.status()).routes[0]?.spares?.some(({ isProven }) => isProven) ? true : undefined),
        'a proven spare',
      )
      const address = await network.addressAtServer()
      const { begun, done } = network.download(SIZE)
      await begun
      assert.ok(network.killPeer(address))
      const { sha256, error } = await done
      assert.deepEqual({ sha256, error }, { sha256: patternHash(SIZE), error: undefined })
      assert.notEqual(await network.addressAtServer(), address)
    },
  )

  let last: PeerName | undefined
  await t.test('with every peer dead it is cut off, says so, and nothing leaves straight', async () => {
    last = await peerAtServer(network)
    network.killPeer(await network.addressAtServer())
    const { problem } = await waitFor(async () => {
      const status = await me.status()
      return status.state === 'ready' ? undefined : status
    }, 'the tunnel to be cut off')
    assert.match(problem ?? '', /no further peer|no other is ready|did not answer/)
    assert.deepEqual(await straight(), [])
    assert.ok(last)
    await network.startPeer(last)
  })

  await t.test('a black hole of 1,296 bytes behind the peer stalls nothing that begins behind it', async () => {
    assert.equal(await me.hoplite('down'), 'Disconnected.\n')
    await network.startPeer(network.peerNames.find(name => name !== last) ?? 'one')
    const vpn = network.host('vpn')
    const drop = (hook: string) =>
      `chain ${hook} { type filter hook ${hook} priority 0; udp ${hook === 'input' ? 'dport' : 'sport'} ${SERVER_PORT} meta length > 1296 counter drop; }`
    await vpn.ip('link', 'set', 'eth0', 'gso_max_segs', '1')
    for (const name of network.peerNames) await network.host(name).ip('link', 'set', 'eth0', 'gso_max_segs', '1')
    await vpn.run('nft', `table inet hole { ${drop('input')}; ${drop('output')}; }`)
    await me.hoplite('entry', file, '--config', network.clientConfig())
    const { sha256, error, longestPauseMs } = await network.download(SIZE).done
    assert.deepEqual({ sha256, error }, { sha256: patternHash(SIZE), error: undefined })
    assert.ok(longestPauseMs < 2_000, `${longestPauseMs} ms`)
    assert.match(await vpn.run('nft', 'list', 'table', 'inet', 'hole'), /packets [1-9]/, 'what was tried was lost')
    await vpn.run('nft', 'delete', 'table', 'inet', 'hole')
  })

  await t.test('down puts the network back as it was', async () => {
    assert.equal(await me.hoplite('down'), 'Disconnected.\n')
    assert.deepEqual(await me.network(), before)
  })

  await t.test('the daemon is killed: still nothing leaves, until recover puts the network back', async () => {
    await me.hoplite('entry', file, '--config', network.clientConfig())
    process.kill((await me.status()).pid, 'SIGKILL')
    await waitFor(async () => (isStateLocked(network.state('me')) ? undefined : true), 'the end of the daemon')
    assert.deepEqual(await straight(), [])
    assert.notDeepEqual(await me.network(), before)
    assert.match(await me.hoplite('recover'), /The network is as it was\.\n$/)
    assert.deepEqual(await me.network(), before)
    assert.ok((await straight()).length > 0)
  })
})

/** The client's machine: one network and one set of mounts for all that runs on it. */
class Machine {
  readonly #network: EntryNetwork
  readonly #pid: string

  private constructor(network: EntryNetwork, pid: number | undefined) {
    this.#network = network
    this.#pid = String(pid)
  }

  static async start(network: EntryNetwork): Promise<Machine> {
    const { pid } = network.host('me').start('sleep', ['infinity'])
    const machine = new Machine(network, pid)
    // Until then it is `ip` that has yet to enter the namespace.
    await waitFor(
      async () => ((await machine.run('cat', `/proc/${pid}/comm`)) === 'sleep\n' ? true : undefined),
      'the machine',
    )
    return machine
  }

  run(...words: readonly string[]): Promise<string> {
    return execute('nsenter', ['--target', this.#pid, '--mount', '--net', ...words]).then(({ stdout }) => stdout)
  }

  hoplite(...words: readonly string[]): Promise<string> {
    return this.run(process.execPath, COMMAND, ...words, '--state-dir', this.#network.state('me'))
  }

  status(): Promise<Status> {
    return callAction(socketPath(this.#network.state('me')), 'status', {})
  }

  /** Everything of the network that a tunnel may change. */
  /** All of it but the link's own address, which the kernel takes into use when it has looked for duplicates. */
  async network(): Promise<string[]> {
    const shown = await Promise.all(NETWORK.map(words => this.run(...words)))
    return shown.map(text => text.replaceAll(/^local fe80::.*\n/gm, ''))
  }
}

/** The peer whose address the server sees. */
async function peerAtServer(network: EntryNetwork) {
  const seen = await network.addressAtServer()
  return network.peerNames.find(name => seen.startsWith(`${network.address(name)}:`))
}

/** What arrives at the server's machine from the client itself, while it tries everything. */
async function leaks(network: EntryNetwork, me: Machine, capture: Capture): Promise<string[]> {
  const to = network.address('vpn')
  const ping = ['ping', '-c', '1', '-W', '0.3']
  const tries = [
    [...ping, to],
    [...ping, '-I', 'eth0', to],
    [...ping, '-m', String(CLIENT_MARK), to],
  ]
  await Promise.all(tries.map(words => me.run(...words).catch(() => undefined)))
  await network.host('web').run(...(ping as [string, ...string[]]), to)
  return capture.until(new RegExp(`^IP ${network.address('web').replaceAll('.', '\\.')} > .* ICMP echo request`))
}
