import assert from 'node:assert/strict'
import test from 'node:test'
import { planClientNetwork } from './client-network.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions, EVERYTHING } from './client-options.ts'
import type { Step } from './steps.ts'

const OPTIONS: ClientNetworkOptions = {
  tun: 'hop0',
  addresses: ['10.77.0.2/24', 'fd77::2/64'],
  mtu: 1280,
  dns: { servers: ['10.77.0.1'], search: ['example.test'], way: 'cover', stateDirectory: '/var/lib/hoplite' },
  mark: CLIENT_MARK,
  priority: CLIENT_PRIORITY,
  relays: [{ address: '192.0.2.1', protocol: 'udp', port: 4000 }],
  control: [{ address: '2001:db8::1', protocol: 'tcp', port: 4001 }],
  uid: 0,
  routes: EVERYTHING,
  lan: [],
  split: {},
  killSwitch: true,
  hasIpv6: true,
}

/** What a plan does, or undoes, as lines: commands, and scripts line by line. */
function lines(options: Partial<ClientNetworkOptions>, what: 'do' | 'undo' = 'do'): string[] {
  return planClientNetwork({ ...OPTIONS, ...options }).flatMap(({ step }) => linesOf(step, what))
}

function linesOf(step: Step, what: 'do' | 'undo'): string[] {
  if (step.kind !== 'commands') return [step.kind]
  return step[what].flatMap(({ run, input }) => [run.join(' '), ...(input ?? '').split('\n').map(line => line.trim())])
}

/** The rules of one chain of the firewall. */
function chainOf(options: Partial<ClientNetworkOptions>, name: string): string[] {
  const all = lines(options)
  const from = all.indexOf(`chain ${name} {`)
  return from < 0 ? [] : all.slice(from + 1, all.indexOf('}', from))
}

test('the firewall is first, name resolution is last, and the rule into the tunnel follows all others', () => {
  const ids = planClientNetwork(OPTIONS).map(({ id }) => id)
  assert.equal(ids[0], 'firewall hoplite-hop0')
  assert.equal(ids.at(-1), 'dns hop0')
  const place = (start: string) => ids.findIndex(id => id.startsWith(start))
  assert.ok(place('link') < place('routes'))
  assert.ok(place('routes') < place('rules'))
  assert.ok(place('rules') < place('control'))
  assert.ok(place('control') < place('tunnel rule'))
})

test('every change has an undo: each rule its removal, the table, the routes and the link theirs', () => {
  for (const { id, step } of planClientNetwork(OPTIONS)) {
    if (step.kind === 'commands') assert.ok(step.undo.length > 0, id)
  }
  const added = lines({}).filter(line => / rule add /.test(line))
  const removed = lines({}, 'undo').filter(line => / rule del /.test(line))
  assert.deepEqual(removed.map(line => line.replace(' del ', ' add ')).toSorted(), added.toSorted())
  assert.ok(lines({}, 'undo').includes('delete table inet hoplite-hop0'))
})

test('ids are unique, whatever the options', () => {
  const twice = { address: '192.0.2.9', protocol: 'tcp', port: 1 } as const
  const ids = planClientNetwork({ ...OPTIONS, control: [twice, { ...twice, port: 2 }] }).map(({ id }) => id)
  assert.equal(new Set(ids).size, ids.length)
})

test('the rules and the routes of the table are replaced in one transaction', () => {
  const [first] = planClientNetwork(OPTIONS)
  assert.equal(first?.replaces, true)
  const script = linesOf(first?.step ?? { kind: 'sysctl', name: '', value: '' }, 'do')
  assert.deepEqual(script.slice(0, 4), [
    'nft -f -',
    'add table inet hoplite-hop0',
    'delete table inet hoplite-hop0',
    'table inet hoplite-hop0 {',
  ])
})

test('everything: what is not allowed is refused in every chain, and behind the TUN stands an unreachable route', () => {
  for (const name of ['output', 'input', 'forward']) assert.match(chainOf({}, name)[0] ?? '', /policy drop;$/)
  for (const family of [4, 6]) {
    const routes = lines({}).filter(line => line.startsWith(`ip -${family} route`))
    assert.match(routes[0] ?? '', /unreachable default metric 4278198272/)
    assert.ok(routes.some(line => / dev hop0 metric 1 /.test(line)))
  }
})

test('a tunnel without IPv6 addresses blocks IPv6 instead of letting it pass beside', () => {
  for (const routes of [EVERYTHING, ['0.0.0.0/0'], ['0.0.0.0/1', '128.0.0.0/1']]) {
    const made = lines({ addresses: ['10.77.0.2/24'], routes })
    assert.ok(made.some(line => line.startsWith('ip -6 route replace unreachable default')))
    assert.ok(!made.some(line => /^ip -6 route replace .* dev /.test(line)))
    assert.match(chainOf({ routes }, 'output')[0] ?? '', /policy drop;$/)
  }
})

test('it blocks it without a kill switch too', () => {
  const made = lines({ addresses: ['10.77.0.2/24'], killSwitch: false })
  assert.ok(made.some(line => line.startsWith('ip -6 route replace unreachable default')))
  assert.ok(!made.some(line => line.startsWith('ip -4 route replace unreachable')))
})

test('a kernel without IPv6 gets no command of it', () => {
  assert.deepEqual(
    lines({ hasIpv6: false }).filter(line => /^ip -6|addrgenmode|address add fd77/.test(line)),
    [],
  )
})

test('some networks: those are refused around the tunnel, with bits of a host cleared, and the rest is left alone', () => {
  const options = { routes: ['10.1.2.3/8', 'fd00:1::5/32'] }
  const made = lines(options)
  assert.ok(made.includes(`ip -4 route replace 10.0.0.0/8 dev hop0 metric 1 table ${CLIENT_MARK}`))
  assert.ok(made.some(line => line.startsWith('ip -4 route replace unreachable 10.0.0.0/8 ')))
  assert.ok(!made.some(line => / default /.test(line) && line.startsWith('ip -')))
  const output = chainOf(options, 'output')
  assert.match(output[0] ?? '', /policy accept;$/)
  assert.deepEqual(
    output.filter(line => /daddr \{ (10|fd)/.test(line)),
    [
      'ip daddr { 10.0.0.0/8 } reject with icmpx type admin-prohibited',
      'ip6 daddr { fd00:1::/32 } reject with icmpx type admin-prohibited',
    ],
  )
})

test('without a kill switch nothing is filtered, and the tunnel still works', () => {
  for (const name of ['output', 'input', 'forward']) assert.deepEqual(chainOf({ killSwitch: false }, name), [])
  assert.ok(chainOf({ killSwitch: false }, 'source').length > 0)
})

test('names are asked outside the tunnel by nobody, even where the LAN may be reached', () => {
  const output = chainOf({ lan: ['192.168.0.0/16'] }, 'output')
  const dns = output.findIndex(line => line.includes('th dport { 53, 853 } reject'))
  assert.ok(dns > 0 && dns < output.indexOf('ip daddr @lan4 accept'))
  const rules = lines({ lan: ['10.0.0.0/8'] }).filter(line => line.startsWith('ip -4 rule'))
  const place = (text: string) => rules.findIndex(line => line.includes(text))
  assert.ok(place('to 10.77.0.1/32') < place('to 10.0.0.0/8'), 'our server is ours though the LAN claims its address')
})

test('a LAN is what is attached: the default route of table main does not count for it', () => {
  const rule = lines({ lan: ['192.168.0.0/16'] }).find(line => line.includes('to 192.168.0.0/16'))
  assert.match(rule ?? '', /lookup main suppress_prefixlength 0$/)
})

test('only some users or cgroups: they are refused around the tunnel, others are not', () => {
  const options: Partial<ClientNetworkOptions> = {
    split: { onlyUsers: [{ from: 1000, to: 1001 }], onlyCgroups: ['user.slice/work'] },
  }
  const output = chainOf(options, 'output')
  assert.match(output[0] ?? '', /policy accept;$/)
  assert.ok(output.includes('meta skuid 1000-1001 meta nfproto ipv4 reject with icmpx type admin-prohibited'))
  assert.ok(output.includes(`meta mark ${CLIENT_MARK + 2} meta nfproto ipv6 reject with icmpx type admin-prohibited`))
  const last = lines(options).filter(line => line.includes(`priority ${CLIENT_PRIORITY + 9}`))
  assert.deepEqual(
    last.filter(line => line.startsWith('ip -4')),
    [
      `ip -4 rule add priority ${CLIENT_PRIORITY + 9} uidrange 1000-1001 lookup ${CLIENT_MARK}`,
      `ip -4 rule add priority ${CLIENT_PRIORITY + 9} fwmark ${CLIENT_MARK + 2} lookup ${CLIENT_MARK}`,
    ],
  )
})

test('what is no address, network, port, name or path is refused before it reaches a command', () => {
  const wrong: readonly Partial<ClientNetworkOptions>[] = [
    { tun: 'a b' },
    { tun: '"; drop' },
    { tun: 'x'.repeat(16) },
    { addresses: ['10.0.0.1/33'] },
    { addresses: ['10.0.0.1/24/1'] },
    { addresses: ['fe80::1%eth0/64'] },
    { mtu: 576 },
    { mtu: Number.NaN },
    { relays: [{ address: 'example.test', protocol: 'udp', port: 1 }] },
    { relays: [{ address: '192.0.2.1', protocol: 'udp', port: 0 }] },
    { relays: [{ address: '192.0.2.1', protocol: 'icmp' as 'udp', port: 1 }] },
    { relays: Array(1025).fill(OPTIONS.relays[0]) },
    { routes: ['0.0.0.0/0 metric 1'] },
    { routes: ['::ffff:10.0.0.1/128'] },
    { lan: ['8.8.8.0/24' as '10.0.0.0/8'] },
    { mark: 1 },
    { priority: 40_000 },
    { uid: -1 },
    { split: { excludeUsers: [{ from: 5, to: 4 }] } },
    { split: { onlyCgroups: ['a" accept'] } },
    { split: { onlyCgroups: ['../x'] } },
    { dns: { servers: ['name'], search: [], way: 'cover', stateDirectory: '/' } },
    { dns: { servers: ['10.0.0.1'], search: ['a\nnameserver 1.1.1.1'], way: 'cover', stateDirectory: '/' } },
  ]
  for (const options of wrong) {
    assert.throws(() => planClientNetwork({ ...OPTIONS, ...options }), RangeError, JSON.stringify(options))
  }
})

test('each way of name resolution has its undo', () => {
  const dns = OPTIONS.dns
  if (dns === undefined) throw new Error('no DNS')
  const made = (['resolved', 'resolvconf', 'cover', 'rewrite'] as const).map(way => {
    return planClientNetwork({ ...OPTIONS, dns: { ...dns, way } }).at(-1)?.step
  })
  assert.deepEqual(
    made.map(step => step?.kind),
    ['commands', 'commands', 'cover', 'file'],
  )
  assert.ok(made.every(step => step?.kind !== 'commands' || step.undo.length > 0))
})

const DEVICES = { interface: 'hoplite-mesh', networks: ['fd68:6f70:6c69::/48', '100.64.0.0/10'] }

test("links to one's devices leave beside the tunnel with their mark alone, to the hosts that were named; not into it", () => {
  const [links, other] = [CLIENT_MARK + 3, CLIENT_MARK]
  const output = chainOf({ devices: DEVICES }, 'output')
  assert.ok(output.includes(`meta mark ${links} meta l4proto udp ip daddr @links4 accept`))
  assert.ok(output.indexOf(`meta mark ${links} drop`) > output.indexOf(`meta mark ${other} drop`))
  assert.ok(output.includes('oifname "hoplite-mesh" accept'))
  assert.ok(chainOf({ devices: DEVICES }, 'last').includes(`oifname "hop0" meta mark ${links} drop`))
  assert.ok(lines({ devices: DEVICES }).includes('set links4 { type ipv4_addr; }'))
  assert.equal(
    lines({}).some(line => line.includes('links')),
    false,
  )
})

test('what comes from devices is let in by their addresses; from elsewhere through their interface only answers', () => {
  const input = chainOf({ devices: DEVICES }, 'input')
  const of = input.filter(line => line.includes('hoplite-mesh') || line.includes('socket mark'))
  assert.deepEqual(of, [
    `meta l4proto udp socket mark ${CLIENT_MARK + 3} accept`,
    'iifname "hoplite-mesh" ip saddr 100.64.0.0/10 accept',
    'iifname "hoplite-mesh" ip6 saddr fd68:6f70:6c69::/48 accept',
    'iifname "hoplite-mesh" ct state established,related accept',
    'iifname "hoplite-mesh" drop',
  ])
})

test('a family that the tunnel does not carry is refused inside, and never goes around it', () => {
  const plan = lines({ refused: ['::/0'] })
  const table = `table ${CLIENT_MARK}`
  assert.ok(plan.includes(`ip -6 route replace unreachable ::/0 metric 1 ${table}`))
  assert.ok(plan.some(line => line.startsWith('ip -6 route replace unreachable default')))
  assert.equal(
    plan.some(line => line.startsWith('ip -6 route replace ::/0 dev hop0')),
    false,
  )
  assert.ok(plan.includes(`ip -4 route replace 0.0.0.0/0 dev hop0 metric 1 ${table}`))
})
