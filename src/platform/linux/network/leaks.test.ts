// What leaves a machine, seen on its link, while everything tries to get around the tunnel.
//
//   box ──── client ──── router          box: a container of the client
//                          192.0.2.1     the relay, port 4000
//                          192.168.7.1   the LAN's gateway and resolver
//                          198.51.100.9, 2001:db8:9::9   strangers

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Capture } from '#lab/capture.ts'
import { claim, OTHER_ROUTER, redirect } from '#lab/machine/hostile-lan.ts'
import { LINK_ONLY, MARKER, makeNoise, sendMarker } from '#lab/machine/noise.ts'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions, EVERYTHING } from './client-options.ts'

const TUNNEL_PROCESS = fileURLToPath(new URL('../../../lab/machine/tunnel-process.ts', import.meta.url))
const MAIN = fileURLToPath(new URL('../../../cli/main.ts', import.meta.url))
const TO_RELAY = /^IP 192\.168\.7\.\d+\.\d+ > 192\.0\.2\.1\.4000: /
/** A fragment of a datagram to the relay after the first. */
const REST_TO_RELAY = /^IP 192\.168\.7\.\d+ > 192\.0\.2\.1: (ip-proto-17|udp)/

test('nothing leaves but to the relay: rogue routes, resolvers, fragments, link changes, and the death of the process', async t => {
  const missing = missingForNamespaces('nft', 'tcpdump', 'ping')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  if (skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')) return
  await using lab = new Namespaces()
  const { client, box, router } = await network(lab)
  const capture = await Capture.start(router, 'eth0', `not (${LINK_ONLY})`)
  const leaks = async (act: () => Promise<unknown>) => {
    await act()
    await makeNoise(client)
    await makeNoise(box)
    await sendMarker(client)
    const lines = await capture.until(MARKER)
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
    ['the router claims a stranger, the resolver and the relay', () => claimed(client, router)],
  ]
  const ofTheLiving: typeof events = [
    ['the router redirects the tunnel', () => redirected(client, router)],
    ['stopped, and woken elsewhere', () => stoppedAndWoken(tunnel, client)],
  ]
  for (const [name, act] of [...events, ...ofTheLiving]) {
    const { outside, carried } = await leaks(name === 'link down' ? async () => undefined : act)
    if (name === 'link down') {
      await act()
      await makeNoise(client)
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
    const [next] = await Promise.all([startTunnel(client, state), makeNoise(client), makeNoise(box)])
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

/** Whoever asks the LAN for these addresses is answered by the router, and routes say that they are there. */
async function claimed(client: Host, router: Host): Promise<void> {
  const addresses = ['198.51.100.9', '10.77.0.1', '192.0.2.1']
  const isThere = await router.ip('-4', '-brief', 'address', 'show', 'dev', 'eth0')
  if (!isThere.includes('10.77.0.1/32')) await claim(router, 'eth0', addresses)
  for (const address of addresses) await client.ip('route', 'replace', `${address}/32`, 'dev', 'eth0')
}

/** The kernel believes it: the tunnel's packets go to another router, which is this one. */
async function redirected(client: Host, router: Host): Promise<void> {
  await client.ip('route', 'flush', '192.0.2.1/32')
  await claim(router, 'eth0', [OTHER_ROUTER])
  const way = () => client.ip('route', 'get', '192.0.2.1', 'mark', `${CLIENT_MARK}`)
  const before = await way()
  const source = / src ([0-9.]+)/.exec(before)?.[1] ?? ''
  const ports = [...(await client.run('cat', '/proc/net/udp')).matchAll(/^ *[0-9]+: [0-9A-F]{8}:([0-9A-F]{4}) /gm)]
  for (const [, port = ''] of ports) {
    await redirect(client, router, {
      source,
      sourcePort: Number.parseInt(port, 16),
      target: '192.0.2.1',
      targetPort: 4000,
    })
  }
  assert.doesNotMatch(before, /redirected/)
  assert.match(await way(), new RegExp(`via ${OTHER_ROUTER.replaceAll('.', '\\.')} .*redirected`, 's'))
}

async function stoppedAndWoken(tunnel: ChildProcess, client: Host): Promise<void> {
  tunnel.kill('SIGSTOP')
  await makeNoise(client)
  await client.ip('link', 'set', 'eth0', 'down')
  await linkUp(client)
  await client.ip('address', 'flush', 'dev', 'eth0', 'scope', 'global')
  await client.ip('address', 'add', '192.168.7.2/24', 'dev', 'eth0')
  await linkUp(client)
  await makeNoise(client)
  tunnel.kill('SIGCONT')
}

function stateDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-leaks-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return path.join(directory, 'state')
}

async function startTunnel(client: Host, state: string) {
  const options: ClientNetworkOptions = {
    tun: 'hop0',
    addresses: ['10.77.0.2/32', 'fd77::2/128'],
    mtu: 1280,
    dns: { servers: ['10.77.0.1'], search: [], way: 'cover', stateDirectory: path.dirname(state) },
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

async function recover(host: Host, state: string): Promise<void> {
  await host.run(process.execPath, '--no-warnings', MAIN, 'recover', '--state-dir', state)
}
