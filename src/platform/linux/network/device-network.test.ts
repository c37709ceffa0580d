import assert from 'node:assert/strict'
import test from 'node:test'
import {
  type DeviceSharing,
  isDeviceChange,
  planDeviceRoutes,
  planDeviceRules,
  planDeviceSharing,
  type SharingMachine,
} from './device-network.ts'

const MACHINE: SharingMachine = {
  ...{ outward4: 'eth0', outward6: 'eth0', isRouter: false, listensToRouters: true, hasIpv6: true },
  interfaces4: ['eth1'],
}
const SHARING: DeviceSharing = {
  ...{ tun: 'hoplite0', mtu: 1_280, own: ['100.64.0.1', 'fd68:6f70:6c69::1'] },
  denied: ['10.0.0.0/8', '192.168.0.0/16', '2001:db8::/32'],
  grants: [
    { addresses: ['100.64.0.2', 'fd68:6f70:6c69::2'], networks: ['192.168.1.0/24'], onward: [], internet: false },
    { addresses: ['100.64.0.3'], networks: [], onward: [], internet: true },
  ],
}

function rulesOf(sharing: DeviceSharing, machine = MACHINE): string {
  const [firewall] = planDeviceSharing(sharing, machine)
  return firewall?.step.kind === 'commands' ? (firewall.step.do[0]?.input ?? '') : ''
}

function chain(rules: string, name: string): string[] {
  const [, body = ''] = new RegExp(`chain ${name} \\{\n([^}]*(?:\\{[^}]*\\}[^}]*)*?)\n  \\}`).exec(rules) ?? []
  return body.split('\n').map(line => line.trim())
}

test('a device reaches what is offered to it, in its own name, and everything else is refused last', () => {
  assert.deepEqual(chain(rulesOf(SHARING), 'granted'), [
    'oifname "hoplite0" reject with icmpx type admin-prohibited',
    'ip saddr { 100.64.0.2 } ip daddr 192.168.1.0/24 accept',
    'ip saddr { 100.64.0.3 } ip daddr != @denied4 accept',
    'reject with icmpx type admin-prohibited',
  ])
})

test('a phone is carried on to other devices and what lies behind them, in the name of this machine, and nobody else is', () => {
  const onward = ['100.64.0.9/32', '100.64.0.10/32', '10.1.0.0/16', '10.1.2.0/24']
  const phone = { addresses: ['100.64.0.4'], networks: ['10.1.0.0/16'], onward, internet: true }
  const rules = rulesOf({ ...SHARING, grants: [...SHARING.grants.slice(0, 1), phone] })
  const from = 'oifname "hoplite0" ip saddr { 100.64.0.4 } ip daddr'
  assert.deepEqual(chain(rules, 'granted').slice(0, 5), [
    'oifname "hoplite0" ct direction reply ct state established,related accept',
    `${from} { 100.64.0.9/32, 100.64.0.10/32 } accept`,
    `${from} 10.1.0.0/16 accept`,
    `${from} 10.1.2.0/24 accept`,
    'oifname "hoplite0" reject with icmpx type admin-prohibited',
  ])
  assert.equal(chain(rules, 'source').filter(rule => rule.startsWith(from) && rule.endsWith('masquerade')).length, 3)
})

test('nothing is begun towards devices, and a machine that was no router passes on nothing else', () => {
  const [, ...forward] = chain(rulesOf(SHARING), 'forward')
  assert.deepEqual(forward, [
    'iifname "hoplite0" jump granted',
    'oifname "hoplite0" ct state established,related accept',
    'oifname "hoplite0" drop',
    'iifname != "hoplite0" drop',
  ])
  assert.equal(chain(rulesOf(SHARING, { ...MACHINE, isRouter: true }), 'forward').length, 4)
})

test('forwarding is switched on where it is needed, router advertisements go on counting, and each change has its undo', () => {
  const plan = planDeviceSharing(SHARING, MACHINE)
  assert.deepEqual(
    plan.slice(1).map(({ step }) => (step.kind === 'sysctl' ? `${step.name}=${step.value}` : step.kind)),
    [
      'net/ipv4/conf/hoplite0/forwarding=1',
      'net/ipv4/conf/eth1/forwarding=1',
      'net/ipv4/conf/eth0/forwarding=1',
      'net/ipv6/conf/eth0/accept_ra=2',
      'net/ipv6/conf/all/forwarding=1',
    ],
  )
  assert.ok(plan.every(({ id }) => isDeviceChange(id)))
  const lan = { ...SHARING, grants: SHARING.grants.slice(0, 1) }
  assert.equal(planDeviceSharing(lan, MACHINE).length, 3)
  assert.equal(isDeviceChange('firewall hoplite-hoplite0'), false)
})

test('what makes no sense reaches no command', () => {
  const bad: Partial<DeviceSharing>[] = [
    { tun: 'a b' },
    { mtu: 1 },
    { own: ['; drop'] },
    { grants: [{ addresses: ['100.64.0.2'], networks: ['$(reboot)'], onward: [], internet: false }] },
    { grants: [{ addresses: ['100.64.0.2'], networks: [], onward: ['$(reboot)'], internet: false }] },
    { grants: [{ addresses: ['x'], networks: [], onward: [], internet: true }] },
    { grants: Array.from({ length: 1_100 }, () => SHARING.grants[1] as DeviceSharing['grants'][number]) },
  ]
  for (const each of bad) assert.throws(() => planDeviceSharing({ ...SHARING, ...each }, MACHINE), RangeError)
})

test('routes come and go with the way, and behind each stays an unreachable one until it is taken back', () => {
  const words = (before: boolean | undefined, after: boolean | undefined) => {
    const routes = (isUp: boolean | undefined) => (isUp === undefined ? [] : [{ network: '192.168.1.0/24', isUp }])
    return planDeviceRoutes('hoplite0', routes(before), routes(after)).map(({ run }) => run.slice(3, 5).join(' '))
  }
  assert.deepEqual(words(undefined, true), ['replace unreachable', 'replace 192.168.1.0/24'])
  assert.deepEqual(words(undefined, false), ['replace unreachable'])
  assert.deepEqual(words(true, false), ['del 192.168.1.0/24'])
  assert.deepEqual(words(false, true), ['replace 192.168.1.0/24'])
  assert.deepEqual(words(true, true), [])
  assert.deepEqual(words(true, undefined), ['del 192.168.1.0/24', 'del unreachable'])
})

test("the links' own packets go past the table, and nowhere when there is no network", () => {
  const { step } = planDeviceRules(4)
  const rules = step.kind === 'commands' ? step.do.map(({ run }) => run.slice(3).join(' ')) : []
  assert.deepEqual(rules, [
    'add priority 3197 fwmark 6844275 lookup main',
    'add priority 3198 fwmark 6844275 unreachable',
    'add priority 3199 lookup 6844275',
  ])
})
