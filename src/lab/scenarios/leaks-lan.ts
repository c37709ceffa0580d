// What a network does to a machine: rogue routes, advertisements and leases, links and addresses that come and go, a router that
// claims others' addresses and redirects. Each with noise of the machine during or after it.

import { fileURLToPath } from 'node:url'
import { claim, Dhcp, OTHER_ROUTER, redirect } from '../machine/hostile-lan.ts'
import { LAN, type MachineNetwork, RELAY_PORT } from '../machine/machine-network.ts'
import { makeNoise } from '../machine/noise.ts'
import { waitFor } from '../testnet.ts'

const ADVERTISE = fileURLToPath(new URL('../nat/advertise-process.ts', import.meta.url))
const ROGUE_PREFIX = '2001:db8:bad::'
const LEASED = '192.168.7.120'
/** Where the machine asks for names, through the tunnel. */
const RESOLVER = '192.0.0.1'

export interface HostileEvent {
  readonly name: string
  readonly act: () => Promise<unknown>
  /** Whether the tunnel must carry something meanwhile. */
  readonly carries: 'some' | 'any'
}

export function events(network: MachineNetwork): readonly (readonly [string, () => Promise<unknown>])[] {
  const me = network.host('me')
  const noisy = (act: () => Promise<unknown>) => async () => {
    await act()
    await makeNoise(me)
  }
  return [
    ['noise: strangers, LAN resolver, fragments, oversized packets', () => makeNoise(me)],
    ['rogue routes', noisy(() => rogueRoutes(network))],
    ['router advertisement', noisy(() => routerAdvertisement(network))],
    ['the link is down', noisy(() => me.ip('link', 'set', 'eth0', 'down'))],
    ['the link is up again', noisy(() => linkUp(network, LAN.me))],
    ['another address', noisy(() => linkUp(network, LAN.other))],
  ]
}

/** A LAN whose router means ill; what it did is undone at the end. */
export async function* hostileLan(network: MachineNetwork): AsyncGenerator<HostileEvent> {
  const [me, gate] = [network.host('me'), network.host('gate')]
  const relays = network.relayNames.map(name => network.address(name))
  const half = ['0.0.0.0/1', '128.0.0.0/1'].map(to => [to, LAN.gate] as const)
  const guard = async () => (await network.ready()).routes[0]?.hops[0]?.address.split(':')[0] ?? ''
  const leased = (routes: Parameters<Dhcp['serve']>[1]) => async () => {
    await dhcp.serve(LEASED, [['0.0.0.0/0', LAN.gate], ...routes])
    await dhcp.take()
    await inMain(network, routes.length)
    await makeNoise(me)
  }
  await using dhcp = new Dhcp(me, gate, network.lanLink)
  yield {
    name: 'a lease with routes (option 121): half the internet, the resolver, a stranger',
    act: leased([...half, [`${RESOLVER}/32`, LAN.gate], ['198.51.100.9/32', '0.0.0.0']]),
    carries: 'some',
  }
  yield { name: 'the lease is renewed', act: () => Promise.all([dhcp.take(), makeNoise(me)]), carries: 'some' }
  yield {
    name: 'a lease that leads to the relays by another router, which is nobody',
    act: leased([...half, ...relays.map(relay => [`${relay}/32`, OTHER_ROUTER] as const)]),
    carries: 'any',
  }
  yield { name: 'a lease without more', act: leased([]), carries: 'any' }

  const release = [await claim(gate, network.lanLink, [RESOLVER, await guard()])]
  yield {
    name: 'the router claims the addresses of the resolver and of the guard, and a lease says that they are on the link',
    act: async () => {
      await leased([RESOLVER, await guard()].map(address => [`${address}/32`, '0.0.0.0'] as const))()
      await network.inside('getent', 'ahosts', 'origin.test').catch(() => undefined)
    },
    carries: 'some',
  }
  yield {
    name: 'it claims all relays',
    act: async () => {
      release.push(await claim(gate, network.lanLink, await unclaimed(network, relays)))
      await leased(relays.map(relay => [`${relay}/32`, '0.0.0.0'] as const))()
    },
    carries: 'any',
  }
  await Promise.all(release.map(free => free()))
  await leased([])()

  release[0] = await claim(gate, network.lanLink, [OTHER_ROUTER])
  yield {
    name: "the router redirects the flow to the guard, and strangers', to another",
    act: async () => {
      const { listening } = await network.status()
      const sourcePort = Number(listening['udp']?.[0]?.split(':').at(-1))
      const ours = { source: LEASED, sourcePort, target: await guard(), targetPort: RELAY_PORT }
      for (const flow of [ours, { ...ours, target: '198.51.100.9', targetPort: 9 }]) await redirect(me, gate, flow)
      await makeNoise(me)
    },
    carries: 'some',
  }
  await release[0]?.()
  await linkUp(network, LAN.me)
}

/** The relays whose addresses the router does not have yet. */
async function unclaimed(network: MachineNetwork, relays: readonly string[]): Promise<string[]> {
  const taken = await network.host('gate').ip('-4', '-brief', 'address', 'show', 'dev', network.lanLink)
  return relays.filter(relay => !taken.includes(`${relay}/32`))
}

/** The lease's routes are where every program's packets would find them. */
async function inMain(network: MachineNetwork, count: number): Promise<void> {
  const routes = async () => (await network.host('me').ip('-4', 'route')).split('\n').length - 1
  await waitFor(async () => ((await routes()) >= count + 2 ? true : undefined), 'the routes of a lease')
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

export async function linkUp(network: MachineNetwork, address: string): Promise<void> {
  const me = network.host('me')
  await me.ip('link', 'set', 'eth0', 'up')
  await me.ip('-4', 'address', 'flush', 'dev', 'eth0')
  await me.ip('address', 'add', `${address}/24`, 'dev', 'eth0')
  await me.ip('address', 'replace', `${LAN.me6}/64`, 'dev', 'eth0', 'nodad')
  await me.ip('route', 'replace', 'default', 'via', LAN.gate, 'dev', 'eth0')
  await me.ip('-6', 'route', 'replace', 'default', 'via', LAN.gate6, 'dev', 'eth0')
}
