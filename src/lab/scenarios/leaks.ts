// What leaves a machine while everything goes wrong: the real daemon, and a capture of what arrives at its router. Whatever the
// machine says must go to a relay or to the bootstrap node, and to no port of theirs but the right one.

import { readdirSync, readFileSync } from 'node:fs'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { Capture } from '../capture.ts'
import { Dhcp } from '../machine/hostile-lan.ts'
import { MachineNetwork } from '../machine/machine-network.ts'
import { LINK_ONLY, MARKER, makeNoise, sendMarker } from '../machine/noise.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'
import { events, hostileLan } from './leaks-lan.ts'
import { otherPrograms, sendBound } from './leaks-programs.ts'
import { sleeps } from './leaks-sleep.ts'

interface Seen {
  readonly outside: readonly string[]
  readonly carried: number
}

/** Who is killed; with each goes the daemon. */
const VICTIMS = ['a worker', 'the daemon', 'the helper'] as const

export const leaks: Scenario = async bench => {
  const { say, promise } = bench
  const missing = MachineNetwork.missing('tcpdump', ...Dhcp.programs)
  if (missing !== undefined) throw new Error(`${missing} is missing: install dnsmasq-base, udhcpc and tcpdump`)
  await using network = await MachineNetwork.start({ relays: 4, hops: 3 })
  const me = network.host('me')
  const capture = await Capture.start(network.host('gate'), network.lanLink, `not (${LINK_ONLY})`)
  const look = (act: () => Promise<unknown>) => watch(network, capture, act)

  const open = await look(() => makeNoise(me))
  const bound = await look(() => sendBound(me))
  const [all, ofBound] = [open.outside.length, bound.outside.length]
  say(`  without a tunnel, ${all} packets are seen of what will be tried, and ${ofBound} of sockets bound to the link`)
  promise('the capture sees what leaves', all > 20 && ofBound > 20)

  tell(bench, 'start', await look(() => network.up()), 'some')
  await network.ready()
  for (const [name, act] of events(network)) {
    tell(bench, name, await look(act), name === 'the link is down' ? 'any' : 'some')
    if (name !== 'the link is down') await network.ready()
  }
  for await (const { name, act, carries } of hostileLan(network)) {
    tell(bench, name, await look(act), carries)
    if (carries === 'some') await network.ready()
  }
  await network.ready()
  for (const { name, act, carries, promises } of otherPrograms(network)) {
    tell(bench, name, await look(act), carries)
    for (const [text, held] of promises?.() ?? []) promise(`${name}: ${text}`, held)
    await network.ready()
  }
  for (const { name, act } of sleeps(network)) {
    let backMs = Number.POSITIVE_INFINITY
    tell(bench, name, await look(async () => (backMs = await act())), 'any')
    bench.figure(`${name}: backMs`, Math.round(backMs))
    promise(`${name}: packets flow again within 3 s`, backMs < 3_000)
    await network.ready()
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
  tell(bench, 'stop', await look(() => network.hoplite('me', 'down')), 'any')
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
  const carried = lines.filter(line => isOurs(line) || isRest(line)).length
  const outside = lines.filter(line => !isOurs(line) && !isRest(line) && !LEASE.test(line))
  return { outside, carried }
}

/** The machine asks for a lease. */
const LEASE = /\.68 > (255\.255\.255\.255|192\.168\.7\.1)\.67: BOOTP\/DHCP, Request/
const RELAYS = (network: MachineNetwork) => network.relayNames.map(name => network.address(name))
const ALLOWED = (network: MachineNetwork) => [
  `${network.address('boot')}.51820`,
  // The last is the door for clients without UDP, which is tried while no relay answers.
  ...RELAYS(network).flatMap(host => [`${host}.51820`, `${host}.51821`, `${host}.443`]),
]

function tell({ figure, promise }: Bench, name: string, seen: Seen, carries: 'some' | 'any'): void {
  figure(name, `${seen.carried} to relays, ${seen.outside.length} elsewhere`)
  if (seen.outside.length > 0) figure(`${name}: elsewhere`, seen.outside.slice(0, 5).join('; '))
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
