import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { Capture } from '#lab/capture.ts'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { NOT_PUBLIC_NETWORKS } from '#stream/exit-policy.ts'
import { type ExitNetworkOptions, planExitNetwork } from './exit-network.ts'

const MACHINE = {
  outward4: 'eth0',
  outward6: 'eth0',
  isRouter: false,
  listensToRouters: true,
  hasIpv6: true,
} as const
const OPTIONS: ExitNetworkOptions = {
  tun: 'hop0',
  addresses: ['10.64.0.1/16', 'fd64::1/64'],
  mtu: 1280,
  denied: NOT_PUBLIC_NETWORKS,
  rules: [],
  allowed: [],
  clientsMeet: false,
}

/** For what must be reached, though the machine is busy. */
const PATIENT_MS = 30_000

test('the filter is there before anything is forwarded, and goes after it', () => {
  const ids = planExitNetwork(OPTIONS, MACHINE).map(({ id }) => id)
  assert.deepEqual(ids, [
    'firewall hoplite-hop0',
    'link hop0',
    'eth0/forwarding hop0',
    'hop0/forwarding hop0',
    'eth0/accept_ra hop0',
    'all/forwarding hop0',
  ])
})

test('a family without a way out is refused, and nothing is forwarded for it', () => {
  const plan = planExitNetwork(OPTIONS, { ...MACHINE, outward6: undefined })
  assert.ok(!plan.some(({ id }) => id.startsWith('all/forwarding')))
  assert.match(firewallOf(plan), /meta nfproto ipv6 reject/)
})

test('one address stands for the resolvers of clients, which are reached though they are private', () => {
  const resolver = { address: '192.0.0.1', servers: ['192.168.1.1', '9.9.9.9'] }
  const text = firewallOf(planExitNetwork({ ...OPTIONS, resolver }, MACHINE))
  const rule = 'ip daddr 192.0.0.1 meta l4proto { tcp, udp } th dport 53 dnat ip to numgen inc mod 2 map'
  assert.ok(text.includes(`iifname "hop0" ${rule} { 0 : 192.168.1.1, 1 : 9.9.9.9 }`))
  assert.match(text, /set allowed4 .*192\.168\.1\.1 \. udp \. 53/)
  for (const servers of [[], ['2001:db8::1'], ['a', 'b'], ['1.1.1.1', '1.1.1.2', '1.1.1.3', '1.1.1.4', '1.1.1.5']]) {
    const wrong = { ...OPTIONS, resolver: { address: '192.0.0.1', servers } }
    assert.throws(() => planExitNetwork(wrong, MACHINE), RangeError, servers.join())
  }
})

test('what is no address, network, port or name is refused before it reaches a rule', () => {
  for (const wrong of [
    { tun: 'a"; drop' },
    { addresses: ['10.64.0.1/16', '10.65.0.1/16'] },
    { denied: ['10.0.0.0/33'] },
    { rules: [{ action: 'allow', ports: { from: 0, to: 5 } }] },
    { allowed: [{ address: '10.0.0.1', protocol: 'udp', port: 65536 }] },
  ] as Partial<ExitNetworkOptions>[]) {
    assert.throws(() => planExitNetwork({ ...OPTIONS, ...wrong }, MACHINE), RangeError, JSON.stringify(wrong))
  }
  assert.throws(() => planExitNetwork(OPTIONS, { ...MACHINE, outward4: 'eth0" accept' }), RangeError)
})

test('a client reaches the internet, and neither private networks, the exit, other clients nor mail', async t => {
  const missing = missingForNamespaces('nft', 'ping', 'tcpdump')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using lab = new Namespaces()
  const [client, exit, outside] = [await lab.host('client'), await lab.host('exit'), await lab.host('outside')]
  await lab.cable(exit, '198.18.0.2/24', outside, '198.18.0.1/24')
  // A cable in the place of the TUN: the rules know it by its name alone.
  await lab.cable(client, '10.64.0.9/16', exit, '10.64.99.99/32')
  await exit.ip('link', 'set', 'eth1', 'down', 'name', 'hop0')
  await client.ip('route', 'add', 'default', 'via', '10.64.0.1')
  await client.ip('address', 'add', '10.64.0.10/16', 'dev', 'eth0')
  await exit.ip('route', 'add', 'default', 'via', '198.18.0.1')
  for (const address of ['8.8.8.8/32', '10.1.1.1/32', '192.168.1.1/32', '169.254.169.254/32']) {
    await outside.ip('address', 'add', address, 'dev', 'lo')
  }
  await exit.run('sysctl', '-qw', 'net.ipv4.conf.eth0.forwarding=0')
  const state = mkdtempSync(path.join(tmpdir(), 'hoplite-exit-'))
  t.after(() => rmSync(state, { recursive: true, force: true }))
  const allowed = [{ address: '10.1.1.1', protocol: 'tcp', port: 7001 } as const]
  const servers = [25, 443, 7001, 7002].map(port => listen(outside, port))
  await Promise.all([...servers, listen(exit, 443)])
  const before = await picture(exit)
  await change(exit, state, { allowed }, 'apply')
  // As after a crash: the machine is taken as it was before the first time.
  await change(exit, state, { allowed }, 'apply')

  const toServer = await Capture.start(outside, 'eth0', 'tcp[tcpflags] & tcp-syn != 0')
  const toClient = await Capture.start(client, 'eth0', 'tcp[tcpflags] & tcp-syn != 0')
  assert.ok(await dials(client, '8.8.8.8', 443, PATIENT_MS))
  // The link takes 1500 bytes and the tunnel 1280: both ends hear of segments that fit.
  await toServer.until(/ 198\.18\.0\.2\.\d+ > 8\.8\.8\.8\.443: Flags \[S\].*mss 1240/)
  await toClient.until(/8\.8\.8\.8\.443 > .*Flags \[S\.\].*mss 1240/)

  const cases: readonly (readonly [string, number, boolean])[] = [
    ['8.8.8.8', 443, true],
    ['8.8.8.8', 25, false],
    ['10.1.1.1', 443, false],
    ['10.1.1.1', 7001, true],
    ['10.1.1.1', 7002, false],
    ['192.168.1.1', 443, false],
    ['169.254.169.254', 443, false],
    ['10.64.0.1', 443, false],
    ['198.18.0.2', 443, false],
    ['10.64.0.77', 443, false],
  ]
  for (const [host, port, reached] of cases) {
    assert.equal(await dials(client, host, port, reached ? PATIENT_MS : 400), reached, `${host} port ${port}`)
  }
  await client.run('ping', '-c', '1', '-W', '20', '8.8.8.8')
  await assert.rejects(client.run('ping', '-c', '1', '-W', '1', '10.1.1.1'))
  // Nobody outside opens anything towards a client, or goes through the exit to elsewhere.
  await outside.ip('route', 'add', '10.64.0.0/16', 'via', '198.18.0.2')
  await assert.rejects(outside.run('ping', '-c', '1', '-W', '1', '10.64.0.9'))
  assert.match(await exit.run('nft', 'list', 'chain', 'inet', 'hoplite-hop0', 'forward'), /iifname != "hop0" drop/)

  await change(exit, state, {}, 'undo')
  await exit.ip('link', 'set', 'hop0', 'up')
  assert.equal(await picture(exit), before)
  assert.ok(!(await dials(client, '8.8.8.8', 443, 400)))
})

function firewallOf(plan: ReturnType<typeof planExitNetwork>): string {
  const step = plan[0]?.step
  return step?.kind === 'commands' ? (step.do[0]?.input ?? '') : ''
}

async function change(host: Host, state: string, more: Partial<ExitNetworkOptions>, what: 'apply' | 'undo') {
  const file = (name: string) => JSON.stringify(new URL(name, import.meta.url))
  await script(
    host,
    `import { Changes } from ${file('./changes.ts')}
     import { applyExitNetwork } from ${file('./exit-network.ts')}
     const changes = Changes.open(${JSON.stringify(state)})
     const options = ${JSON.stringify({ ...OPTIONS, ...more })}
     await (${what === 'apply'} ? applyExitNetwork(changes, options) : changes.undoAll())`,
  )
}

/** Rules, routes and switches, as text. */
async function picture(host: Host): Promise<string> {
  const parts = [
    await host.run('nft', 'list', 'ruleset'),
    await host.ip('rule'),
    await host.run('sysctl', '-a', '--pattern', 'forwarding|accept_ra$|ip_forward$|rp_filter'),
  ]
  return parts.join('\n')
}

async function listen(host: Host, port: number): Promise<void> {
  const child = host.start(
    process.execPath,
    ['--eval', `require('node:net').createServer(socket => socket.end()).listen(${port}, () => console.log('up'))`],
    { stdio: ['ignore', 'pipe', 'inherit'] },
  )
  await new Promise(resolve => child.stdout?.once('data', resolve))
}

/** Whether a connection is made in so many ms. */
async function dials(host: Host, to: string, port: number, withinMs: number): Promise<boolean> {
  const said = await script(
    host,
    `import net from 'node:net'
     const end = said => { console.log(said); process.exit() }
     net.connect(${port}, '${to}').on('connect', () => end('yes')).on('error', () => end('no'))
     setTimeout(end, ${withinMs}, 'no')`,
  )
  return said.trim() === 'yes'
}

function script(host: Host, text: string): Promise<string> {
  return host.run(process.execPath, '--no-warnings', '--input-type=module', '--eval', text)
}
