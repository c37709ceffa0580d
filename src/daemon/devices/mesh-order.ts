// What changes the machine is told of the network of one's devices: all that an address in it may be.

import { DEVICE_NETWORK, DEVICE_NETWORK_4 } from '#meet/device-address.ts'
import { ZONE } from '#meet/names.ts'
import type { ClientOrder, MeshOrder } from '#platform/linux/helper/helper-order.ts'
import { NOT_PUBLIC_NETWORKS } from '#stream/exit-policy.ts'
import type { Config } from '../config.ts'

/** The interface of one's devices beside a tunnel: known by name, so that the firewall knows it before it is there. */
export const DEVICES_NAME = 'hoplite-mesh'
/** What all addresses of devices are of, and what their IPv4 addresses may be of. */
export const DEVICE_NETWORKS = [DEVICE_NETWORK, DEVICE_NETWORK_4] as const

const EVERY_DEVICE = { network: DEVICE_NETWORK, ipv4: DEVICE_NETWORK_4, zone: ZONE, denied: NOT_PUBLIC_NETWORKS }

/** `undefined` where no interface is wanted. */
export function meshOrder({ meet }: Config, hasTunnel: boolean): MeshOrder | undefined {
  if (!meet.tunnel || !meet.interface) return undefined
  return { ...EVERY_DEVICE, ...(hasTunnel && { interface: DEVICES_NAME }) }
}

/** The same where the tunnel of the whole machine is the devices' interface too. */
export function meshThrough(name: string): MeshOrder {
  return { ...EVERY_DEVICE, interface: name }
}

/** What the firewall of a machine that goes through a route is told of devices; their links go beside the route. */
export function devicesBeside(config: Config): Pick<ClientOrder, 'devices'> {
  const isWanted = meshOrder(config, true) !== undefined
  return isWanted ? { devices: { interface: DEVICES_NAME, networks: DEVICE_NETWORKS } } : {}
}
