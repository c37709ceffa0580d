// What changes the machine is told of a client, as far as it is known beforehand: the tunnel of the whole machine, which leads
// through a route or through a device of one's own, and the network of one's devices.

import type { ClientOrder, MeshOrder } from '#platform/linux/helper/helper-order.ts'
import type { Config } from '../config.ts'
import { DEVICE_NETWORKS, devicesBeside, meshOrder, meshThrough } from '../devices/mesh-order.ts'
import { type MachinePlan, machineOrder } from './machine-plan.ts'
import { planVia, type ViaPlan } from './via-device.ts'

/** Of the whole machine's tunnel. */
export function tunnelOrder(config: Config, plan: MachinePlan, via: ViaPlan | undefined): ClientOrder {
  if (via === undefined) return { ...machineOrder(plan), ...devicesBeside(config) }
  return {
    ...machineOrder(plan),
    ...{ addresses: via.addresses, dnsServers: via.resolvers },
    refused: via.hasIpv6 ? [] : ['::/0'],
    devices: { networks: DEVICE_NETWORKS },
  }
}

/** Of all that a client's helper does. Throws DEVICE_UNKNOWN, or REQUEST_INVALID when that device does not offer the internet. */
export function clientOrder(
  config: Config,
  stateDir: string,
  plan: MachinePlan | undefined,
): { readonly tunnel?: ClientOrder; readonly mesh?: MeshOrder } {
  const via = plan?.via === undefined ? undefined : planVia(stateDir, config.meet.name, plan.via)
  const tunnel = plan && tunnelOrder(config, plan, via)
  const mesh =
    tunnel !== undefined && via !== undefined ? meshThrough(tunnel.name) : meshOrder(config, plan !== undefined)
  return { ...(tunnel && { tunnel }), ...(mesh && { mesh }) }
}
