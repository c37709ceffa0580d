import assert from 'node:assert/strict'
import test from 'node:test'
import type { HopliteError } from '#api/errors.ts'
import type { Changes } from '../network/changes.ts'
import type { DeviceSharing } from '../network/device-network.ts'
import type { Tun } from '../tun.ts'
import { Helper, MACHINE } from './helper.ts'
import type { ClientOrder, ExitOrder, HelperOrder, HelperRequest } from './helper-order.ts'

const CLIENT: ClientOrder = {
  kind: 'client',
  name: 'hoplite7',
  addresses: ['192.0.0.2/32'],
  dnsServers: [],
  dnsSearch: [],
  routes: ['0.0.0.0/0'],
  killSwitch: true,
  lan: [],
  split: {},
}
const EXIT: ExitOrder = {
  kind: 'exit',
  name: 'hoplite-exit',
  addresses: ['10.64.0.1/16'],
  denied: ['10.0.0.0/8'],
  rules: [],
  allowed: [],
  resolver: { address: '192.0.0.1', servers: ['192.0.2.53'] },
}
const OPEN: HelperRequest = { verb: 'open', mtu: 1_400, queues: 2, control: [] }
const END = { address: '192.0.2.1', protocol: 'udp', port: 7 } as const

const OUTWARD = { outward4: 'eth0', outward6: undefined, isRouter: false, listensToRouters: false, hasIpv6: true }
const MESH: Partial<HelperOrder> = {
  mesh: { network: 'fd68:6f70:6c69::/48', ipv4: '100.64.0.0/10', zone: 'hop', denied: ['10.0.0.0/8'] },
}
const OPEN_MESH: HelperRequest = { verb: 'openMesh', ipv6: 'fd68:6f70:6c69::7', ipv4: '100.64.3.4' }
const GRANT = {
  addresses: ['fd68:6f70:6c69::8', '100.64.3.5'],
  networks: ['192.168.1.0/24'],
  onward: ['100.64.3.9/32', 'fd68:6f70:6c69::9/128', '10.7.0.0/16'],
  internet: true,
}

/** A helper over a machine that only writes down what is done to it. */
function record(order: Partial<HelperOrder> = {}, faults: readonly string[] = []) {
  const done: string[] = []
  let pending: string[] = []
  const did = (what: string, ...words: unknown[]) => {
    done.push([what, ...words.map(word => (typeof word === 'string' ? word : JSON.stringify(word)))].join(' '))
    if (faults.includes(what)) throw new Error(`${what} failed`)
  }
  const changes = {
    pending: () => pending,
    undoAll: async () => {
      did('undoAll')
      pending = []
    },
  } as unknown as Changes
  const machine = {
    ...MACHINE,
    openChanges: (directory: string) => {
      did('journal', directory)
      return changes
    },
    openTun: ({ name = '', queues = 0 }): Tun => {
      did('tun', name, queues)
      return { name, fds: Array.from({ length: queues }, (_, i) => 100 + i), offload: 'tcp', close: () => did('close') }
    },
    openBusySocket: (family: 4 | 6, mark: number) => {
      did('socket', family, mark)
      return 50
    },
    listenForWg: async (name: string) => {
      did('wg', name)
      return { fd: 60, remove: () => did('wg removed') }
    },
    applyClientNetwork: async (_: Changes, { uid, tun }: { readonly uid: number; readonly tun: string }) => {
      did('client', tun, uid)
      pending = ['firewall']
    },
    applyExitNetwork: async () => {
      did('exit')
      pending = ['firewall']
      return OUTWARD
    },
    updateRelays: async (...words: unknown[]) => did('relays', ...words),
    updateControl: async (_: unknown, __: unknown, control: unknown) => did('control', control),
    updateMtu: async (...words: unknown[]) => did('mtu', ...words),
    resetConnectionsFrom: async (addresses: readonly string[]) => did('reset', addresses),
    runHooks: async (_: unknown, when: string, name: string) => {
      did('hooks', when, name)
      return ['3']
    },
    openMeshLink: async ({ name = 'hoplite9' }): Promise<Tun> => {
      did('mesh', name)
      return { name, fds: [70], offload: 'none', close: () => did('close') }
    },
    hasInterface: () => false,
    openLinkSocket: (family: 4 | 6, port: number) => {
      did('link', family, port)
      return 80
    },
    applyDeviceSharing: async (
      _: Changes,
      { tun, own, denied, grants }: DeviceSharing,
      before: DeviceSharing | undefined,
    ) => did('share', tun, own, denied, grants, before?.tun ?? 'none'),
    applyDeviceRoutes: async (_: Changes, tun: string, before: unknown, after: unknown) =>
      did('route', tun, before, after),
    undoDeviceChanges: async () => did('undo devices'),
    undoDeviceOffers: async () => did('undo offers'),
    detectExitMachine: async () => OUTWARD,
    openChangeNews: () => undefined,
  } as typeof MACHINE
  const helper = new Helper({ tunnel: CLIENT, journal: '/j', uid: 61_200, hooks: [], ...order }, machine)
  return { helper, done, take: () => done.splice(0) }
}

const outOfTurn = { code: 'REQUEST_INVALID' } satisfies Partial<HopliteError>

test('a tunnel has the name, addresses and user of the order, and the size of the request', async () => {
  const { helper, take } = record()
  const { answer, fds } = await helper.handle(OPEN)
  assert.deepEqual(fds, [100, 101])
  const opened = { name: 'hoplite7', offload: 'tcp', tookOver: false, killSwitch: true, outward: [] }
  assert.deepEqual(answer, { opened })
  assert.deepEqual(take(), ['journal /j', 'tun hoplite7 2', 'client hoplite7 61200'])
  await helper.handle({ verb: 'relays', relays: [END] })
  await helper.handle({ verb: 'mtu', mtu: 1_300 })
  await helper.handle({ verb: 'reset' })
  assert.deepEqual(take(), [`relays hoplite7 ${JSON.stringify([END])}`, 'mtu hoplite7 1300', 'reset ["192.0.0.2/32"]'])
})

test('before a tunnel is open, and after it was closed, nothing of it is changed', async () => {
  const { helper, take } = record()
  const requests: HelperRequest[] = [
    { verb: 'relays', relays: [END] },
    { verb: 'control', control: [] },
    { verb: 'mtu', mtu: 1_300 },
    { verb: 'reset' },
    { verb: 'wg' },
  ]
  for (const request of requests) await assert.rejects(helper.handle(request), outOfTurn)
  assert.deepEqual(take(), [])
  await helper.handle(OPEN)
  await helper.handle({ verb: 'restore' })
  take()
  for (const request of requests) await assert.rejects(helper.handle(request), outOfTurn)
  await helper.handle({ verb: 'restore' })
  assert.deepEqual(take(), [])
})

test('a second tunnel takes the place of the first, behind its firewall', async () => {
  const { helper, take } = record()
  await helper.handle(OPEN)
  take()
  const { answer } = await helper.handle(OPEN)
  assert.equal(answer.opened?.tookOver, true)
  assert.deepEqual(take(), ['journal /j', 'tun hoplite7 2', 'client hoplite7 61200'])
})

test('a name that is taken leaves what is open as it is', async () => {
  const faults: string[] = []
  const { helper, take } = record({}, faults)
  await helper.handle(OPEN)
  faults.push('tun')
  take()
  await assert.rejects(helper.handle(OPEN), /tun failed/)
  assert.deepEqual(take(), ['journal /j', 'tun hoplite7 2'])
  await helper.handle({ verb: 'mtu', mtu: 1_300 })
  assert.deepEqual(take(), ['mtu hoplite7 1300'])
})

test('what fails half way closes the TUN', async () => {
  const { helper, take } = record({}, ['client'])
  await assert.rejects(helper.handle(OPEN), /client failed/)
  assert.deepEqual(take().slice(2), ['client hoplite7 61200', 'close'])
  const exit = record({ tunnel: EXIT }, ['exit'])
  await assert.rejects(exit.helper.handle(OPEN), /exit failed/)
  assert.deepEqual(exit.take().slice(2), ['exit', 'undoAll', 'close'])
})

test('an exit has no relays, no sources and no socket with the mark', async () => {
  const { helper, take } = record({ tunnel: EXIT })
  const { answer } = await helper.handle(OPEN)
  assert.deepEqual(answer.opened?.outward, [4])
  take()
  const requests: HelperRequest[] = [
    { verb: 'relays', relays: [END] },
    { verb: 'control', control: [] },
    { verb: 'mtu', mtu: 1_300 },
    { verb: 'reset' },
    { verb: 'wg' },
  ]
  for (const request of requests) await assert.rejects(helper.handle(request), outOfTurn)
  await helper.handle({ verb: 'socket', family: 6 })
  assert.deepEqual(take(), ['socket 6 0'])
})

test("when the daemon is gone a client with its kill switch stays shut, and everybody else's network is put back", async () => {
  for (const [tunnel, isShut] of [
    [CLIENT, true],
    [{ ...CLIENT, killSwitch: false }, false],
    [EXIT, false],
  ] as const) {
    const { helper, take } = record({ tunnel })
    await helper.handle(OPEN)
    take()
    await helper.handleDaemonGone()
    assert.deepEqual(take(), isShut ? [] : ['undoAll'])
  }
})

test('a daemon that put its network back leaves nothing to do', async () => {
  const { helper, take } = record({ tunnel: EXIT })
  await helper.handle(OPEN)
  await helper.handle({ verb: 'restore' })
  take()
  await helper.handleDaemonGone()
  assert.deepEqual(take(), [])
})

test('hooks are those of the order, and their outcome is told', async () => {
  const { helper, take } = record({ hooks: [{ when: 'PostUp', command: 'true' }] })
  const { answer } = await helper.handle({ verb: 'hooks', when: 'PostUp' })
  assert.deepEqual([answer.failures, take()], [['3'], ['hooks PostUp hoplite7']])
})

test('the socket for wg goes with the tunnel', async () => {
  const { helper, take } = record()
  await helper.handle(OPEN)
  take()
  assert.deepEqual((await helper.handle({ verb: 'wg' })).fds, [60])
  await helper.handle({ verb: 'restore' })
  assert.deepEqual(take(), ['wg hoplite7', 'wg removed', 'undoAll'])
})

test('devices reach behind the machine what they are granted, from addresses of devices, and private networks alone', async () => {
  const { helper, take } = record(MESH)
  const grants = (...list: (typeof GRANT)[]): HelperRequest => ({ verb: 'meshGrants', grants: list })
  await assert.rejects(helper.handle(grants(GRANT)), outOfTurn)
  await helper.handle(OPEN_MESH)
  take()
  const bad = [
    ...['192.0.2.1', '100.128.0.1', 'fd68:6f70:6c6a::1'].map(address => ({ ...GRANT, addresses: [address] })),
    ...['0.0.0.0/0', '8.8.8.0/24', '100.64.0.0/24', '::/0', 'fd68:6f70:6c69::/64'].map(network => {
      return { ...GRANT, networks: [network] }
    }),
    ...['0.0.0.0/0', '8.8.8.8/32', '100.64.0.0/9', '::/0', 'fd68::/16'].map(onward => ({ ...GRANT, onward: [onward] })),
  ]
  for (const grant of bad) await assert.rejects(helper.handle(grants(GRANT, grant)), outOfTurn)
  assert.deepEqual(take(), [])
  const { answer } = await helper.handle(grants(GRANT))
  assert.deepEqual(answer, { outward: [4] })
  const own = '["fd68:6f70:6c69::7","100.64.3.4"] ["10.0.0.0/8"]'
  assert.deepEqual(take(), ['journal /j', `share hoplite9 ${own} ${JSON.stringify([GRANT])} none`])
  assert.deepEqual((await helper.handle(grants())).answer, {})
  assert.deepEqual(take(), ['journal /j', `share hoplite9 ${own} [] hoplite9`])
})

test('networks of devices lead into their interface: private ones and those of devices, and nothing public', async () => {
  const { helper, take } = record(MESH)
  const to = (network: string): HelperRequest => ({ verb: 'meshNetworks', networks: [{ network, isUp: true }] })
  await assert.rejects(helper.handle(to('192.168.1.0/24')), outOfTurn)
  await helper.handle(OPEN_MESH)
  take()
  for (const network of ['0.0.0.0/0', '8.8.8.8/32', '::/0', '2001:db8::/48', 'fc00::/7', '127.0.0.0/8'])
    await assert.rejects(helper.handle(to(network)), outOfTurn)
  assert.deepEqual(take(), [])
  await helper.handle(to('192.168.1.0/24'))
  await helper.handle(to('100.64.3.5/32'))
  const [lan, device] = ['192.168.1.0/24', '100.64.3.5/32'].map(network => [{ network, isUp: true }])
  assert.deepEqual(take(), [
    ...['journal /j', `route hoplite9 [] ${JSON.stringify(lan)}`],
    ...['journal /j', `route hoplite9 ${JSON.stringify(lan)} ${JSON.stringify(device)}`],
  ])
})

test("who has no devices gets no socket of theirs; what was offered goes with the daemon, and a client's wall stays", async () => {
  const alone = record()
  await assert.rejects(alone.helper.handle({ verb: 'linkSocket', family: 4, port: 0 }), outOfTurn)
  const { helper, take } = record(MESH)
  assert.deepEqual((await helper.handle({ verb: 'linkSocket', family: 4, port: 41_000 })).fds, [80])
  await helper.handle(OPEN)
  take()
  await helper.handleDaemonGone()
  assert.deepEqual(take(), ['journal /j', 'undo offers'])
})
