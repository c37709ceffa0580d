// The device of one's own that a whole machine goes through: what is known of it before the machine's network is shut, when nobody
// can be asked any more.

import { HopliteError } from '#api/errors.ts'
import { systemRandom } from '#crypto/random.ts'
import { Devices } from '#meet/devices.ts'
import { Sharing } from '#meet/sharing.ts'
import { DeviceFile } from '../devices/device-file.ts'
import type { ViaDevice } from '../devices/device-sharing.ts'
import { SharingFile } from '../devices/sharing-file.ts'

export interface ViaPlan extends ViaDevice {
  readonly name: string
  /** Our own addresses in the devices' network, with prefix lengths. */
  readonly addresses: readonly string[]
  /** Where names are asked for: the device's addresses. */
  readonly resolvers: readonly string[]
}

/** Looks a device up by its name or id. Throws DEVICE_UNKNOWN, or REQUEST_INVALID when it does not offer the internet. */
export function planVia(stateDir: string, ownName: string, nameOrId: string): ViaPlan {
  const devices = new Devices(new DeviceFile(stateDir).read(ownName), systemRandom)
  const device = devices.find(nameOrId)
  if (device === undefined) {
    const advice = 'pair it first: hoplite pair; which there are: hoplite devices'
    throw new HopliteError('DEVICE_UNKNOWN', `go through "${nameOrId}": there is no such device`, advice)
  }
  const { id, name, addresses } = device
  const heard = new Sharing(new SharingFile(stateDir).read()).heard(id)
  if (heard === undefined || !(heard.internet4 || heard.internet6)) {
    const advice = 'there: hoplite devices offer internet; then here: hoplite devices, until it is told'
    throw new HopliteError('REQUEST_INVALID', `go through ${name}: it does not offer the internet`, advice)
  }
  const { ipv4, ipv6 } = devices.addresses
  return {
    ...{ id, name, hasIpv6: heard.internet6 },
    addresses: [...(ipv4 === undefined ? [] : [`${ipv4}/32`]), `${ipv6}/128`],
    resolvers: [addresses.ipv4, addresses.ipv6].flatMap(address => address ?? []),
  }
}
