// What the tunnel of one's own VPN changes of the machine's network, when it is a part of a daemon: the part's own to do where root
// did not start the daemon; else the daemon's helper has another for the part.

import { type HelperChannel, helperProcess } from '#platform/linux/helper/helper-channel.ts'
import { assertProgram } from '#platform/linux/network/steps.ts'
import { isNetworkLeft, recoverNetwork } from '../client/recovery.ts'
import type { PartOrder } from '../parts/part-order.ts'
import { entryOrder, planFromText } from './entry-plan.ts'
import { assertTunnelPossible } from './tunnel-network.ts'

/** Asks for the part's way to its helper; `undefined` where it needs none, or has none. */
export function entryHelper(order: PartOrder): Promise<readonly number[]> | undefined {
  const helper = helperProcess()
  if (helper === undefined || order.kind !== 'entry') return undefined
  const plan = planFromText(order.wish)
  return plan.kind === 'tunnel' ? openWay(helper, plan) : undefined
}

async function openWay(helper: HelperChannel, plan: Parameters<typeof entryOrder>[0]): Promise<readonly number[]> {
  const { addresses, dnsServers, dnsSearch, routes, killSwitch } = entryOrder(plan)
  return (await helper.ask({ verb: 'entry', addresses, dnsServers, dnsSearch, routes, killSwitch })).fds
}

/** Whether a part that died has left changes of the network. */
export async function isEntryLeft(stateDir: string): Promise<boolean> {
  const helper = helperProcess()
  if (helper === undefined) return isNetworkLeft(stateDir)
  return helper.ask({ verb: 'entryLeft' }).then(
    ({ answer }) => answer.isLeft ?? false,
    () => false,
  )
}

/** Undoes them. Throws what could not be undone. */
export async function undoEntry(stateDir: string): Promise<void> {
  const helper = helperProcess()
  if (helper !== undefined) await helper.ask({ verb: 'entryRestore' })
  else if (isNetworkLeft(stateDir)) await recoverNetwork(stateDir)
}

/** Throws FFI_MISSING, TUN_UNAVAILABLE, NOT_PERMITTED or PROGRAM_MISSING where a part could make no tunnel. */
export function assertEntryPossible(): void {
  if (helperProcess() === undefined) return assertTunnelPossible()
  for (const program of ['ip', 'nft']) assertProgram(program)
}
