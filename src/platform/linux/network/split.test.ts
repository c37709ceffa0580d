// Who is in the tunnel and who is not, by connections that are answered or not: the tunnel of this test answers nothing, so
// a connection that is made went around it. Reverse paths are checked strictly, as many machines do.

import assert from 'node:assert/strict'
import { type ChildProcess, execFile, spawn } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdirSync, mkdtempSync, rmdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { journalDirectory } from './changes.ts'
import { cgroupMount } from './client-network.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions, EVERYTHING } from './client-options.ts'

const TUNNEL_PROCESS = fileURLToPath(new URL('../../../lab/machine/tunnel-process.ts', import.meta.url))
const MODULES = {
  network: JSON.stringify(new URL('./client-network.ts', import.meta.url)),
  changes: JSON.stringify(new URL('./changes.ts', import.meta.url)),
}
const CGROUP = `hoplite-${process.pid}`
const CGROUPS = path.join('/sys/fs/cgroup', cgroupMount() ?? '')
const MEMBERS = path.join(CGROUPS, CGROUP, 'cgroup.procs')
const [ROOT, CHOSEN, OTHER] = [0, 1000, 1001]

const OPTIONS: ClientNetworkOptions = {
  tun: 'hop0',
  addresses: ['10.77.0.2/32', 'fd77::2/128'],
  mtu: 1280,
  mark: CLIENT_MARK,
  priority: CLIENT_PRIORITY,
  relays: [{ address: '192.0.2.1', protocol: 'udp', port: 4000 }],
  control: [],
  uid: ROOT,
  routes: EVERYTHING,
  lan: [],
  split: {},
  killSwitch: true,
  hasIpv6: true,
}

const DIAL = `
  const [host, port, withinMs] = process.argv.slice(1)
  const end = said => { console.log(said); process.exit() }
  require('node:net').connect(Number(port), host).on('connect', () => end('yes')).on('error', () => end('no'))
  setTimeout(end, Number(withinMs), 'no')`
/** For what must be reached, though the machine is busy; and for what must not. */
const [PATIENT_MS, SHORT_MS] = [30_000, 400]

test('excluded users, cgroups and networks, the LAN that was chosen and our control connections go around the tunnel', async t => {
  await using lab = new Namespaces()
  const client = await network(t, lab)
  if (client === undefined) return
  const state = stateDirectory(t)
  const withCgroup = makeCgroup(t)
  const options: ClientNetworkOptions = {
    ...OPTIONS,
    control: [{ address: '192.0.2.1', protocol: 'tcp', port: 4001 }],
    lan: ['192.168.0.0/16'],
    split: {
      excludeNetworks: ['203.0.113.0/24'],
      excludeUsers: [{ from: CHOSEN, to: CHOSEN }],
      excludeCgroups: withCgroup ? [CGROUP] : [],
    },
  }
  const before = await picture(client)
  await tunnel(t, client, state, options)
  await reaches(client, [
    [ROOT, '198.51.100.9', 443, false],
    [ROOT, '2001:db8:9::9', 443, false],
    [CHOSEN, '198.51.100.9', 443, true],
    [CHOSEN, '2001:db8:9::9', 443, true],
    [CHOSEN, '198.51.100.9', 53, false],
    [OTHER, '198.51.100.9', 443, false],
    [OTHER, '203.0.113.5', 443, true],
    [OTHER, '192.168.7.1', 443, true],
    [OTHER, '192.168.7.1', 53, false],
    [ROOT, '192.0.2.1', 4001, true],
    [ROOT, '192.0.2.1', 443, false],
    [OTHER, '192.0.2.1', 4001, false],
  ])
  if (withCgroup) assert.ok(await dials(client, ROOT, '198.51.100.9', 443, PATIENT_MS, MEMBERS), 'the cgroup')

  await script(
    client,
    `import { Changes } from ${MODULES.changes}
     import { updateControl, updateRelays } from ${MODULES.network}
     const options = ${JSON.stringify(options)}
     await updateControl(Changes.open(${JSON.stringify(journalDirectory(state))}), options, [{ address: '198.51.100.9', protocol: 'tcp', port: 4001 }])
     await updateRelays('hop0', [{ address: '2001:db8::7', protocol: 'udp', port: 7 }])`,
  )
  await reaches(client, [
    [ROOT, '192.0.2.1', 4001, false],
    [ROOT, '198.51.100.9', 4001, true],
  ])
  assert.match(await client.run('nft', 'list', 'set', 'inet', 'hoplite-hop0', 'relays6'), /2001:db8::7 \. udp \. 7/)
  assert.doesNotMatch(await client.run('nft', 'list', 'set', 'inet', 'hoplite-hop0', 'relays4'), /elements/)
  await undo(client, state)
  assert.equal(await picture(client), before, 'the machine is as it was')
  assert.ok(await dials(client, ROOT, '198.51.100.9', 443, PATIENT_MS))
})

test('only some users and cgroups are in the tunnel, and they only there', async t => {
  await using lab = new Namespaces()
  const client = await network(t, lab)
  if (client === undefined) return
  const state = stateDirectory(t)
  const withCgroup = makeCgroup(t)
  const split = { onlyUsers: [{ from: CHOSEN, to: CHOSEN }], onlyCgroups: withCgroup ? [CGROUP] : [] }
  const child = await tunnel(t, client, state, { ...OPTIONS, split })
  const cases = [
    [ROOT, '198.51.100.9', 443, true],
    [OTHER, '2001:db8:9::9', 443, true],
    [CHOSEN, '198.51.100.9', 443, false],
    [CHOSEN, '2001:db8:9::9', 443, false],
    [CHOSEN, '192.168.7.1', 443, false],
  ] as const
  await reaches(client, cases)
  if (withCgroup) assert.ok(!(await dials(client, ROOT, '198.51.100.9', 443, SHORT_MS, MEMBERS)), 'the cgroup')
  child.kill('SIGKILL')
  await once(child, 'exit')
  await reaches(client, cases)
  if (withCgroup)
    assert.ok(!(await dials(client, ROOT, '198.51.100.9', 443, SHORT_MS, MEMBERS)), 'the cgroup, afterwards')
})

test('only some networks are in the tunnel, and they only there', async t => {
  await using lab = new Namespaces()
  const client = await network(t, lab)
  if (client === undefined) return
  const child = await tunnel(t, client, stateDirectory(t), { ...OPTIONS, routes: ['198.51.100.0/24'] })
  const cases = [
    [ROOT, '198.51.100.9', 443, false],
    [ROOT, '203.0.113.5', 443, true],
    [ROOT, '2001:db8:9::9', 443, true],
    [ROOT, '198.51.100.9', 443, false],
  ] as const
  await reaches(client, cases)
  child.kill('SIGKILL')
  await once(child, 'exit')
  await reaches(client, cases)
})

/** A client and its router, which answers at every address; `undefined` when the test is skipped. */
async function network(t: TestContext, lab: Namespaces): Promise<Host | undefined> {
  const missing = missingForNamespaces('nft', 'nsenter', 'setpriv')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return undefined
  if (skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')) return undefined
  const [client, router] = [await lab.host('client'), await lab.host('router')]
  await lab.cable(client, '192.168.7.2/24', router, '192.168.7.1/24')
  await client.ip('address', 'add', '2001:db8:7::2/64', 'dev', 'eth0', 'nodad')
  await router.ip('address', 'add', '2001:db8:7::1/64', 'dev', 'eth0', 'nodad')
  for (const address of ['192.0.2.1/32', '198.51.100.9/32', '203.0.113.5/32', '2001:db8:9::9/128']) {
    await router.ip('address', 'add', address, 'dev', 'lo')
  }
  await client.ip('route', 'add', 'default', 'via', '192.168.7.1')
  await client.ip('-6', 'route', 'add', 'default', 'via', '2001:db8:7::1')
  await client.run('sysctl', '-qw', 'net.ipv4.conf.all.rp_filter=1', 'net.ipv4.conf.default.rp_filter=1')
  const listen = `let left = 3
    const up = () => --left === 0 && console.log('up')
    for (const port of [53, 443, 4001]) require('node:net').createServer(socket => socket.end()).listen(port, up)`
  const server = router.start(process.execPath, ['--eval', listen], { stdio: ['ignore', 'pipe', 'inherit'] })
  if (server.stdout !== null) await once(server.stdout, 'data')
  return client
}

async function reaches(
  client: Host,
  cases: readonly (readonly [uid: number, host: string, port: number, reached: boolean])[],
): Promise<void> {
  const seen = await Promise.all(
    cases.map(([uid, host, port, reached]) => dials(client, uid, host, port, reached ? PATIENT_MS : SHORT_MS)),
  )
  assert.deepEqual(
    cases.map(([uid, host, port], i) => [uid, host, port, seen[i]]),
    cases,
  )
}

async function dials(
  client: Host,
  uid: number,
  host: string,
  port: number,
  withinMs: number,
  members?: string,
): Promise<boolean> {
  const join = members === undefined ? '' : `echo $$ > ${members} && `
  const user = ['setpriv', `--reuid=${uid}`, `--regid=${uid}`, '--clear-groups']
  const words = [
    '-c',
    `${join}exec "$0" "$@"`,
    ...user,
    process.execPath,
    '--eval',
    DIAL,
    host,
    `${port}`,
    `${withinMs}`,
  ]
  const { stdout } = await promisify(execFile)('nsenter', [`--net=/run/netns/${client.namespace}`, 'sh', ...words])
  return stdout.trim() === 'yes'
}

/** Starts a tunnel from where the cgroups are seen: `ip netns exec` would hide them. */
async function tunnel(
  t: TestContext,
  client: Host,
  state: string,
  options: ClientNetworkOptions,
): Promise<ChildProcess> {
  const mount = cgroupMount()
  const order = { state, options: { ...options, ...(mount === undefined ? {} : { cgroupMount: mount }) } }
  const words = [process.execPath, '--no-warnings', TUNNEL_PROCESS, JSON.stringify(order)]
  const child = spawn('nsenter', [`--net=/run/netns/${client.namespace}`, ...words], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  t.after(() => child.kill('SIGKILL'))
  const [said] = await once(child.stdout, 'data')
  assert.equal(String(said), 'ready\n')
  return child
}

/** Rules, routes, firewall and switches, as text. */
async function picture(client: Host): Promise<string> {
  const parts = [
    await client.ip('rule'),
    await client.ip('-6', 'rule'),
    await client.ip('-4', 'route', 'show', 'table', 'all'),
    await client.ip('-6', 'route', 'show', 'table', String(CLIENT_MARK)).catch(() => ''),
    await client.run('nft', 'list', 'ruleset'),
    await client.run(
      'sysctl',
      '-a',
      '--pattern',
      'conf\\.(all|eth0|default)\\.(rp_filter|src_valid|forwarding|disable|accept_ra$)',
    ),
  ]
  return parts.join('\n').replace(/^.* dev hop0 .*$/gm, '')
}

function undo(client: Host, state: string): Promise<string> {
  const open = `Changes.open(${JSON.stringify(journalDirectory(state))})`
  return script(client, `import { Changes } from ${MODULES.changes}\nawait ${open}.undoAll()`)
}

function script(host: Host, text: string): Promise<string> {
  return host.run(process.execPath, '--no-warnings', '--input-type=module', '--eval', text)
}

function stateDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-split-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  const state = path.join(directory, 'state')
  mkdirSync(state)
  return state
}

/** Whether there is a cgroup of ours to put a process into. */
function makeCgroup(t: TestContext): boolean {
  try {
    mkdirSync(path.join(CGROUPS, CGROUP))
  } catch {
    return false
  }
  t.after(() => rmdirSync(path.join(CGROUPS, CGROUP)))
  if (existsSync(MEMBERS)) return true
  return false
}
