// What other programs of the machine do to its network, and try in spite of it: links that are renamed or come beside, rules and
// firewalls of others, a DHCP client that writes the resolver's file, sockets bound to the link.

import { fileURLToPath } from 'node:url'
import { LAN, type MachineNetwork } from '../machine/machine-network.ts'
import { makeNoise } from '../machine/noise.ts'
import type { Host } from '../netns.ts'
import { waitFor } from '../testnet.ts'
import { type HostileEvent, linkUp } from './leaks-lan.ts'

const BOUND = fileURLToPath(new URL('../machine/bound-packets-process.ts', import.meta.url))
const FAMILIES = ['-4', '-6'] as const
const SECOND_LINK = '192.168.7.9'

export interface ProgramEvent extends HostileEvent {
  /** What is promised besides; `act` finds out. */
  readonly promises?: () => readonly (readonly [string, boolean])[]
}

export function otherPrograms(network: MachineNetwork): readonly ProgramEvent[] {
  const me = network.host('me')
  let bound = { root: false, nobody: true }
  let names = ''
  return [
    { name: 'the link is called something else', act: () => renamed(network), carries: 'some' },
    { name: 'a second link with a better default route', act: () => secondLink(network), carries: 'some' },
    { name: "others' rules before ours", act: () => rulesBefore(network), carries: 'any' },
    {
      name: 'our rules are taken away, and put back',
      act: async () => {
        for (const family of FAMILIES) await me.ip(family, 'rule', 'del', 'priority', '3209')
        await makeNoise(me)
        await waitFor(async () => ((await me.ip('-6', 'rule')).includes('3209:') ? true : undefined), 'our rules')
        await makeNoise(me)
      },
      carries: 'some',
    },
    {
      name: 'every firewall is flushed, and ours is put back',
      act: async () => {
        await me.run('nft', 'flush', 'ruleset')
        const isBack = async () => (await me.run('nft', 'list', 'tables')).includes('hoplite-') || undefined
        await waitFor(isBack, 'our firewall')
        await makeNoise(me)
      },
      carries: 'some',
    },
    {
      name: "a DHCP client writes the LAN's resolver into resolv.conf",
      act: async () => {
        const lines = `echo nameserver ${LAN.gate}`
        const writes = `${lines} > /etc/resolv.conf; ${lines} > /etc/.new && mv -f /etc/.new /etc/resolv.conf; rm -f /etc/.new`
        await network.inside('sh', '-c', `(${writes}) 2>/dev/null`).catch(() => undefined)
        names = await network.inside('getent', 'ahosts', 'origin.test')
        await makeNoise(me)
      },
      carries: 'some',
      promises: () => [['names are still asked through the tunnel', names.includes(network.address('web'))]],
    },
    {
      name: 'sockets that are bound to the link, marked, or write their own headers',
      act: async () => (bound = await sendBound(me)),
      carries: 'any',
      promises: () => [
        ['root could set our mark, and nothing came of it', bound.root],
        ['nobody else can', !bound.nobody],
      ],
    },
    {
      name: 'down --stay-shut, and up again',
      act: async () => {
        await network.hoplite('me', 'down', '--stay-shut')
        await makeNoise(me)
        await Promise.all([network.up(), makeNoise(me)])
      },
      carries: 'some',
    },
  ]
}

/** Gives who was allowed to mark a socket. */
export async function sendBound(host: Host): Promise<{ readonly root: boolean; readonly nobody: boolean }> {
  return JSON.parse(await host.run(process.execPath, '--no-warnings', BOUND, 'eth0'))
}

async function renamed(network: MachineNetwork): Promise<void> {
  const me = network.host('me')
  await rename(network, 'eth0', 'lan0')
  await me.ip('route', 'replace', 'default', 'via', LAN.gate, 'dev', 'lan0')
  await me.ip('-6', 'route', 'replace', 'default', 'via', LAN.gate6, 'dev', 'lan0')
  await makeNoise(me, 'lan0')
  await rename(network, 'lan0', 'eth0')
  await linkUp(network, LAN.me)
  await makeNoise(me)
}

async function rename(network: MachineNetwork, from: string, to: string): Promise<void> {
  const me = network.host('me')
  await me.ip('link', 'set', from, 'down')
  await me.ip('link', 'set', from, 'name', to)
  await me.ip('link', 'set', to, 'up')
  await me.ip('address', 'replace', `${LAN.me6}/64`, 'dev', to, 'nodad')
}

/** On the same cable, so that the capture sees what it sends. */
async function secondLink(network: MachineNetwork): Promise<void> {
  const me = network.host('me')
  await me.ip('link', 'add', 'link', 'eth0', 'name', 'eth1', 'type', 'macvlan', 'mode', 'bridge')
  await me.ip('address', 'add', `${SECOND_LINK}/24`, 'dev', 'eth1')
  await me.ip('link', 'set', 'eth1', 'up')
  await me.ip('route', 'del', 'default')
  await me.ip('route', 'add', 'default', 'via', LAN.gate, 'dev', 'eth0', 'metric', '600')
  await me.ip('route', 'add', 'default', 'via', LAN.gate, 'dev', 'eth1', 'metric', '100')
  await makeNoise(me)
  await makeNoise(me, 'eth1')
  await me.ip('link', 'del', 'eth1')
  await makeNoise(me)
  await me.ip('route', 'del', 'default', 'metric', '600')
  await linkUp(network, LAN.me)
}

async function rulesBefore(network: MachineNetwork): Promise<void> {
  const me = network.host('me')
  for (const family of FAMILIES) await me.ip(family, 'rule', 'add', 'priority', '100', 'lookup', 'main')
  await makeNoise(me)
  for (const family of FAMILIES) await me.ip(family, 'rule', 'del', 'priority', '100')
}
