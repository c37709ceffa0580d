// What changes the machine is told of the network of one's devices: all that an address in it may be.

import { DEVICE_NETWORK, DEVICE_NETWORK_4 } from '#meet/device-address.ts'
import { ZONE } from '#meet/names.ts'
import type { MeshOrder } from '#platform/linux/helper-order.ts'
import type { Config } from './config.ts'

/** `undefined` where no interface is wanted. */
export function meshOrder({ meet }: Config): MeshOrder | undefined {
  if (!meet.tunnel || !meet.interface) return undefined
  return { network: DEVICE_NETWORK, ipv4: DEVICE_NETWORK_4, zone: ZONE }
}
