// What leaves a machine, seen on its link, while everything tries to get around the tunnel.
//
//   box ──── client ──── router          box: a container of the client
//                          192.0.2.1     the relay, port 4000
//                          192.168.7.1   the LAN's gateway and resolver
//                          198.51.100.9, 2001:db8:9::9   strangers

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Capture } from '#lab/capture.ts'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions, EVERYTHING } from './client-options.ts'

const TUNNEL_PROCESS = fileURLToPath(new URL('../../lab/tunnel-process.ts', import.meta.url))
const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
const MARKER_PORT = 67
/** What a link needs to work at all: ARP, neighbour discovery and the groups of it. */
const NOT_LINK = 'not arp and not (icmp6 and ip6[40] >= 133 and ip6[40] <= 136) and not ip6 dst ff02::16'
const TO_RELAY = /^IP 192\.168\.7\.\d+\.\d+ > 192\.0\.2\.1\.4000: /
/** A fragment of a datagram to the relay after the first. */
const REST_TO_RELAY = /^IP 192\.168\.7\.\d+ > 192\.0\.2\.1: (ip-proto-17|udp)/

/** Everything that tries to get out: datagrams, connections and echoes, plain, marked, bound, fragmented, too large. */
const NOISE = `
  import dgram from 'node:dgram'
  import net from 'node:net'
  import { execFile } from 'node:child_process'
  const send = (to, port, size = 64, bound = undefined, from = undefined) => new Promise(resolve => {
    const socket = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4')
    const done = () => { socket.close(); resolve() }
    socket.on('error', done)
    const go = () => { socket.setBroadcast(true); socket.send(Buffer.alloc(size), port, to, done) }
    bound === undefined ? socket.bind(go) : socket.bind(bound, from, go)
  })
  const dial = (host, port, localAddress) => new Promise(resolve => {
    const socket = net.connect({ host, port, ...(localAddress ? { localAddress } : {}) })
    socket.on('error', () => resolve()).on('connect', () => { socket.destroy(); resolve() })
    setTimeout(() => { socket.destroy(); resolve() }, 150)
  })
  const ping = (...words) => new Promise(resolve => execFile('ping', ['-n', '-c', '1', '-W', '0.1', ...words], resolve))
  const own = process.argv[1]
  await Promise.all([
    send('198.51.100.9', 9), send('198.51.100.9', 9, 3000), send('198.51.100.9', 9, 20000),
    send('192.168.7.1', 53), dial('192.168.7.1', 53), dial('192.168.7.1', 853), send('198.51.100.9', 53),
    send('192.0.2.1', 4000), send('192.0.2.1', 4001), dial('198.51.100.9', 443), dial('198.51.100.9', 443, own),
    send('224.0.0.251', 5353), send('255.255.255.255', 9), send('192.168.7.255', 137), send('192.168.7.1', 9),
    send('198.51.100.9', 9, 64, 0, own),
    send('2001:db8:9::9', 9), send('2001:db8:9::9', 9, 3000), send('2001:db8:7::1', 53), dial('2001:db8:9::9', 443),
    send('ff02::fb%eth0', 5353), send('fe80::1%eth0', 53),
    ping('198.51.100.9'), ping('-I', 'eth0', '198.51.100.9'), ping('-m', '${CLIENT_MARK}', '198.51.100.9'),
    ping('-s', '4000', '198.51.100.9'), ping('-M', 'do', '-s', '1400', '198.51.100.9'), ping('-r', '192.168.7.1'),
    ping('-6', '2001:db8:9::9'), ping('-6', '-I', 'eth0', '2001:db8:9::9'), ping('-6', '-s', '4000', '2001:db8:9::9'),
  ])
`

test('nothing leaves but to the relay: rogue routes, resolvers, fragments, link changes, and the death of the process', async t => {
  const missing = missingForNamespaces('nft', 'tcpdump', 'ping')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  if (skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')) return
  await using lab = new Namespaces()
  const { client, box, router } = await network(lab)
  const capture = await Capture.start(router, 'eth0', NOT_LINK)
  const leaks = async (act: () => Promise<unknown>) => {
    await act()
    await noise(client)
    await noise(box)
    await mark(client)
    const lines = await capture.until(/192\.168\.7\.1\.67: .*length/)
    const outside = lines.filter(line => !TO_RELAY.test(line) && !REST_TO_RELAY.test(line))
    return { outside, carried: lines.length - outside.length }
  }

  // What is asked of a busy machine at one moment may be lost on the way: it is asked again.
  const kinds = ['> 192.168.7.1.53', '> 198.51.100.9.9', '> 2001:db8:9::9', '> 224.0.0.251.5353', '10.8.0.2']
  const seen: string[] = []
  const unseen = () => kinds.filter(kind => !seen.some(line => line.includes(kind)))
  for (let i = 0; i < 4 && unseen().length > 0; i++) seen.push(...(await leaks(async () => undefined)).outside)
  assert.deepEqual(unseen(), [], 'without the tunnel, these are seen')

  const state = stateDirectory(t)
  const tunnel = await startTunnel(client, state)
  const events: readonly (readonly [string, () => Promise<unknown>])[] = [
    ['start', async () => undefined],
    ['routes of half the internet, and to one host, in table main', () => rogueRoutes(client)],
    ['a router advertisement', () => routerAdvertisement(client)],
    ['link down', () => client.ip('link', 'set', 'eth0', 'down')],
    ['link up', () => linkUp(client)],
    ['another address', () => anotherAddress(client)],
  ]
  for (const [name, act] of events) {
    const { outside, carried } = await leaks(name === 'link down' ? async () => undefined : act)
    if (name === 'link down') {
      await act()
      await noise(client)
    }
    assert.deepEqual(outside, [], name)
    assert.ok(carried > 0, `${name}: the tunnel carries packets`)
  }

  tunnel.kill('SIGKILL')
  await once(tunnel, 'exit')
  for (const [name, act] of [['the process is killed', async () => undefined] as const, ...events.slice(1)]) {
    if (name === 'link down') continue
    const { outside, carried } = await leaks(act)
    assert.deepEqual(outside, [], `dead: ${name}`)
    assert.equal(carried, 0)
  }

  // Another process takes the place of the dead one, and noise goes on meanwhile.
  const during = leaks(async () => {
    const [next] = await Promise.all([startTunnel(client, state), noise(client), noise(box)])
    next.kill('SIGKILL')
    await once(next, 'exit')
  })
  assert.deepEqual((await during).outside, [], 'taking over')

  await recover(client, state)
  const after = await leaks(async () => undefined)
  assert.ok(after.outside.length > 0, 'after recovery the machine is open again')
})

async function network(lab: Namespaces) {
  const [client, box, router] = [await lab.host('client'), await lab.host('box'), await lab.host('router')]
  await lab.cable(client, '192.168.7.2/24', router, '192.168.7.1/24')
  await lab.cable(client, '10.8.0.1/24', box, '10.8.0.2/24')
  await client.ip('address', 'add', '2001:db8:7::2/64', 'dev', 'eth0', 'nodad')
  await router.ip('address', 'add', '2001:db8:7::1/64', 'dev', 'eth0', 'nodad')
  for (const address of ['192.0.2.1/32', '198.51.100.9/32', '2001:db8:9::9/128']) {
    await router.ip('address', 'add', address, 'dev', 'lo')
  }
  await defaultRoutes(client)
  await router.ip('route', 'add', '10.8.0.0/24', 'via', '192.168.7.2')
  await box.ip('route', 'add', 'default', 'via', '10.8.0.1')
  await client.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=1')
  return { client, box, router }
}

async function defaultRoutes(client: Host): Promise<void> {
  await client.ip('route', 'replace', 'default', 'via', '192.168.7.1', 'dev', 'eth0')
  await client.ip('-6', 'route', 'replace', 'default', 'via', '2001:db8:7::1', 'dev', 'eth0')
}

async function rogueRoutes(client: Host): Promise<void> {
  for (const to of ['0.0.0.0/1', '128.0.0.0/1', '198.51.100.9/32', '10.77.0.1/32']) {
    await client.ip('route', 'replace', to, 'via', '192.168.7.1', 'dev', 'eth0')
  }
}

async function routerAdvertisement(client: Host): Promise<void> {
  await client.ip('-6', 'route', 'replace', 'default', 'via', '2001:db8:7::1', 'dev', 'eth0', 'metric', '1')
  await client.ip('-6', 'route', 'replace', '2001:db8:9::/64', 'via', '2001:db8:7::1', 'dev', 'eth0', 'metric', '1')
}

async function linkUp(client: Host): Promise<void> {
  await client.ip('link', 'set', 'eth0', 'up')
  await client.ip('address', 'replace', '2001:db8:7::2/64', 'dev', 'eth0', 'nodad')
  await defaultRoutes(client)
}

async function anotherAddress(client: Host): Promise<void> {
  await client.ip('address', 'flush', 'dev', 'eth0', 'scope', 'global')
  await client.ip('address', 'add', '192.168.7.77/24', 'dev', 'eth0')
  await linkUp(client)
}

function stateDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-leaks-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function startTunnel(client: Host, state: string) {
  const options: ClientNetworkOptions = {
    tun: 'hop0',
    addresses: ['10.77.0.2/32', 'fd77::2/128'],
    mtu: 1280,
    dns: { servers: ['10.77.0.1'], search: [], way: 'cover', stateDirectory: state },
    mark: CLIENT_MARK,
    priority: CLIENT_PRIORITY,
    relays: [{ address: '192.0.2.1', protocol: 'udp', port: 4000 }],
    control: [],
    uid: 0,
    routes: EVERYTHING,
    lan: [],
    split: {},
    killSwitch: true,
    hasIpv6: true,
  }
  const words = ['--no-warnings', TUNNEL_PROCESS, JSON.stringify({ state, options })]
  const child = client.start(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  if (child.stdout === null) throw new Error('no output')
  const [first] = await once(child.stdout, 'data')
  assert.equal(String(first), 'ready\n')
  return child
}

function script(host: Host, text: string, ...args: string[]): Promise<string> {
  return host.run(process.execPath, '--no-warnings', '--input-type=module', '--eval', text, ...args)
}

async function noise(host: Host): Promise<void> {
  const addresses = await host.ip('-4', '-o', 'address', 'show', 'dev', 'eth0')
  await script(host, NOISE, /inet ([0-9.]+)/.exec(addresses)?.[1] ?? '127.0.0.1')
}

/** A packet that may always leave, so that whoever looks knows that all before it was seen: a lease is renewed. */
async function mark(host: Host): Promise<void> {
  await script(
    host,
    `import dgram from 'node:dgram'
     const socket = dgram.createSocket('udp4')
     socket.bind(68, () => socket.send(Buffer.alloc(333), ${MARKER_PORT}, '192.168.7.1', () => socket.close()))`,
  )
}

async function recover(host: Host, state: string): Promise<void> {
  await host.run(process.execPath, '--no-warnings', MAIN, 'recover', '--state-dir', state)
}
