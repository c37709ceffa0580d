// What leaves a machine while everything goes wrong: the real daemon, and a capture of what arrives at its router. Whatever the
// machine says must go to a relay or to the bootstrap node, and to no port of theirs but the right one.

import { readdirSync, readFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { isStateLocked } from '#platform/state-lock.ts'
import { Capture } from '../capture.ts'
import { LAN, MachineNetwork } from '../machine-network.ts'
import { LINK_ONLY, MARKER, makeNoise, sendMarker } from '../noise.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'

const ADVERTISE = fileURLToPath(new URL('../advertise-process.ts', import.meta.url))
const ROGUE_PREFIX = '2001:db8:bad::'

interface Seen {
  readonly outside: readonly string[]
  readonly carried: number
}

/** Who is killed; with each goes the daemon. */
const VICTIMS = ['a worker', 'the daemon', 'the helper'] as const

export const leaks: Scenario = async bench => {
  const { say, promise } = bench
  await using network = await MachineNetwork.start({ relays: 4, hops: 3 })
  const me = network.host('me')
  const capture = await Capture.start(network.host('gate'), network.lanLink, `not (${LINK_ONLY})`)
  const look = (act: () => Promise<unknown>) => watch(network, capture, act)

  const open = await look(() => makeNoise(me))
  say(`  without a tunnel, ${open.outside.length} packets are seen of what will be tried`)
  promise('the capture sees what leaves', open.outside.length > 20)

  tell(bench, 'start', await look(() => network.up()), 'some')
  await network.ready()
  for (const [name, act] of events(network)) {
    tell(bench, name, await look(act), name === 'the link is down' ? 'any' : 'some')
    if (name !== 'the link is down') await network.ready()
  }
  tell(bench, 'guard killed', await look(() => loseGuard(network)), 'some')

  const crashed = await look(() => Promise.all([network.crash(), makeNoise(me), makeNoise(me)]))
  tell(bench, 'the data plane fails and is started again', crashed, 'some')
  for (const victim of VICTIMS) {
    const dead = await look(async () => {
      await endDaemon(network, victim)
      await makeNoise(me)
    })
    tell(bench, `${victim} killed`, dead, 'any')
    const after = await look(async () => {
      for (const [, act] of events(network)) await act()
    })
    // The kernel still ends the directory's connections.
    tell(bench, `${victim} killed, then routes, advertisement, link, address`, after, 'any')
    const again = await look(async () => {
      const up = network.up()
      await Promise.all([up, makeNoise(me), makeNoise(me)])
    })
    tell(bench, `${victim} killed, another in its place`, again, 'some')
    await network.ready()
  }
  tell(bench, 'stop', await look(() => network.hoplite('me', 'down')), 'some')
  const after = await look(() => makeNoise(me))
  promise('after down the machine is open again', after.outside.length > 20)

  await network.up()
  await endDaemon(network, 'the daemon')
  const shut = await look(() => makeNoise(me))
  promise('after a crash it is shut', shut.outside.length === 0)
  await network.hoplite('me', 'recover')
  const recovered = await look(() => makeNoise(me))
  promise('after recover it is open', recovered.outside.length > 20)
}

/** What happens on a network, each with noise of the machine during or after it. */
function events(network: MachineNetwork): readonly (readonly [string, () => Promise<unknown>])[] {
  const me = network.host('me')
  const noisy = (act: () => Promise<unknown>) => async () => {
    await act()
    await makeNoise(me)
  }
  return [
    ['noise: strangers, LAN resolver, fragments, oversized packets', () => makeNoise(me)],
    ['rogue routes, as by DHCP option 121', noisy(() => rogueRoutes(network))],
    ['router advertisement', noisy(() => routerAdvertisement(network))],
    ['the link is down', noisy(() => me.ip('link', 'set', 'eth0', 'down'))],
    ['the link is up again', noisy(() => linkUp(network, LAN.me))],
    ['another address', noisy(() => linkUp(network, LAN.other))],
  ]
}

/** Everything that arrives at the router while `act` goes on. */
async function watch(network: MachineNetwork, capture: Capture, act: () => Promise<unknown>): Promise<Seen> {
  await act()
  const me = network.host('me')
  const wasDown = (await me.ip('link', 'show', 'dev', 'eth0')).includes('state DOWN')
  if (wasDown) return { outside: [], carried: 0 }
  await sendMarker(me)
  const lines = await capture.until(MARKER)
  const isOurs = (line: string) => ALLOWED(network).some(address => line.includes(` > ${address}: `))
  // The rest of a datagram in fragments has no ports.
  const isRest = (line: string) => RELAYS(network).some(host => line.includes(` > ${host}: `))
  const outside = lines.filter(line => !isOurs(line) && !isRest(line))
  return { outside, carried: lines.length - outside.length }
}

const RELAYS = (network: MachineNetwork) => network.relayNames.map(name => network.address(name))
const ALLOWED = (network: MachineNetwork) => [
  `${network.address('boot')}.51820`,
  ...RELAYS(network).flatMap(host => [`${host}.51820`, `${host}.51821`]),
]

function tell({ say, figure, promise }: Bench, name: string, seen: Seen, carries: 'some' | 'any'): void {
  figure(name, `${seen.carried} to relays, ${seen.outside.length} elsewhere`)
  for (const line of seen.outside.slice(0, 5)) say(`    ${line}`)
  promise(`${name}: nothing leaves but to relays and the bootstrap node`, seen.outside.length === 0)
  if (carries === 'some') promise(`${name}: the tunnel carries`, seen.carried > 0)
}

async function loseGuard(network: MachineNetwork): Promise<void> {
  const { routes } = await network.ready()
  const guard = network.relayAt(routes[0]?.hops[0]?.address ?? '')
  if (guard === undefined) throw new Error('the route has no guard')
  await network.kill(guard)
  await makeNoise(network.host('me'))
  await network.startRelay(guard)
  await network.ready()
}

/** SIGKILL to the process, by its own id or by that of the thread that carries packets. */
async function endDaemon(network: MachineNetwork, victim: (typeof VICTIMS)[number]): Promise<void> {
  const { daemon, helper } = await network.processes()
  const pids = { 'a worker': workerOf(daemon), 'the daemon': daemon, 'the helper': helper }
  process.kill(pids[victim], 'SIGKILL')
  await waitFor(async () => (isStateLocked(network.state('me')) ? undefined : true), 'the end of the daemon')
}

function workerOf(pid: number): number {
  const tasks = readdirSync(`/proc/${pid}/task`).map(Number)
  const named = tasks.find(task => readFileSync(`/proc/${pid}/task/${task}/comm`, 'utf8').includes('orker'))
  return named ?? tasks.at(-1) ?? pid
}

async function rogueRoutes(network: MachineNetwork): Promise<void> {
  for (const to of ['0.0.0.0/1', '128.0.0.0/1', '198.51.100.9/32', '192.0.0.1/32', `${network.address('web')}/32`]) {
    await network.host('me').ip('route', 'replace', to, 'via', LAN.gate, 'dev', 'eth0')
  }
}

/** A real one; the machine believes it, and its routes say so. */
async function routerAdvertisement(network: MachineNetwork): Promise<void> {
  await network.host('gate').run(process.execPath, '--no-warnings', ADVERTISE, network.lanLink, ROGUE_PREFIX)
  await waitFor(async () => {
    const routes = await network.host('me').ip('-6', 'route')
    return routes.includes('proto ra') ? true : undefined
  }, 'the routes of an advertisement')
}

async function linkUp(network: MachineNetwork, address: string): Promise<void> {
  const me = network.host('me')
  await me.ip('link', 'set', 'eth0', 'up')
  await me.ip('-4', 'address', 'flush', 'dev', 'eth0')
  await me.ip('address', 'add', `${address}/24`, 'dev', 'eth0')
  await me.ip('address', 'replace', `${LAN.me6}/64`, 'dev', 'eth0', 'nodad')
  await me.ip('route', 'replace', 'default', 'via', LAN.gate, 'dev', 'eth0')
  await me.ip('-6', 'route', 'replace', 'default', 'via', LAN.gate6, 'dev', 'eth0')
}
