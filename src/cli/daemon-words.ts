// The words of `hoplite daemon`: what starts a client's process, in the background or behind a helper, tells it all that it was told.

import { type MachineFlags, machineWords, planMachine } from '#daemon/client/machine-plan.ts'

export interface DaemonFlags extends Partial<MachineFlags> {
  readonly hops?: number
  readonly proxy?: string
  readonly spendLimit?: number
  readonly country?: readonly string[]
  readonly avoidCountry?: readonly string[]
  readonly off?: boolean
  readonly tun?: boolean
}

export function daemonWords(flags: DaemonFlags): string[] {
  const { hops, proxy, spendLimit, country, avoidCountry, off, tun } = flags
  return [
    'daemon',
    ...(hops === undefined ? [] : ['--hops', String(hops)]),
    ...(proxy === undefined ? [] : ['--proxy', proxy]),
    ...(spendLimit === undefined ? [] : ['--spend-limit', String(spendLimit)]),
    ...(country === undefined ? [] : ['--country', ...country]),
    ...(avoidCountry === undefined ? [] : ['--avoid-country', ...avoidCountry]),
    ...(off ? ['--off'] : []),
    ...(tun ? ['--tun', ...machineWords(planMachine({ killSwitch: true, ...flags }))] : []),
  ]
}
