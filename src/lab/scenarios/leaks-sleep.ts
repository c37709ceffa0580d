// A machine that sleeps: the client's processes, the daemon and its helper, are stopped for longer than their timers expect, and for
// longer than session keys live. Meanwhile the link goes down, and afterwards another address is there. To the processes that is what
// a suspended machine is, but for the clock of intervals, which goes on here and stands still there.

import { LAN, type MachineNetwork } from '../machine/machine-network.ts'
import { makeNoise } from '../machine/noise.ts'
import { waitFor } from '../testnet.ts'
import { linkUp } from './leaks-lan.ts'

/** Session keys end after 180 s. */
const SLEEPS_S = [20, 190] as const

/** Each gives the milliseconds from the wake until a packet has come back through the tunnel. */
export function sleeps(network: MachineNetwork): readonly { readonly name: string; act(): Promise<number> }[] {
  return SLEEPS_S.map((seconds, i) => ({
    name: `stopped for ${seconds} s, without a link, and woken with another address`,
    act: () => sleep(network, seconds * 1_000, i % 2 === 0 ? LAN.other : LAN.me),
  }))
}

async function sleep(network: MachineNetwork, ms: number, address: string): Promise<number> {
  const me = network.host('me')
  const { daemon, helper } = await network.processes()
  const tell = (signal: NodeJS.Signals) => [helper, daemon].map(pid => process.kill(pid, signal))
  tell('SIGSTOP')
  try {
    await makeNoise(me)
    await me.ip('link', 'set', 'eth0', 'down')
    await new Promise(resolve => setTimeout(resolve, ms))
    await linkUp(network, address)
    await makeNoise(me)
  } finally {
    tell('SIGCONT')
  }
  const wokeMs = performance.now()
  const web = network.address('web')
  await waitFor(
    () =>
      me.run('ping', '-n', '-c', '1', '-W', '0.3', web).then(
        () => true,
        () => undefined,
      ),
    'an answer through the tunnel',
  )
  const backMs = performance.now() - wokeMs
  await makeNoise(me)
  return backMs
}
