// What networks of devices change on this machine: done by this process where it has the right, else by its helper.

import { networkInterfaces } from 'node:os'
import type { HelperChannel } from '#platform/linux/helper/helper-channel.ts'
import type { Changes } from '#platform/linux/network/changes.ts'
import { kernelHasIpv6 } from '#platform/linux/network/client-network.ts'
import {
  applyDeviceRoutes,
  applyDeviceSharing,
  type DeviceRoute,
  type DeviceSharing,
} from '#platform/linux/network/device-network.ts'
import { detectExitMachine } from '#platform/linux/network/exit-network.ts'
import { type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'

export interface Kernel {
  /** Makes this what devices may use; gives the families that lead to the internet, where that is among it. */
  readonly share: (wanted: DeviceSharing, before: DeviceSharing | undefined) => Promise<readonly (4 | 6)[]>
  readonly route: (tun: string, before: readonly DeviceRoute[], after: readonly DeviceRoute[]) => Promise<void>
  /** Networks that the machine is attached to, but by this interface. */
  readonly attached: (but: string) => readonly IpPrefix[]
}

/** Changes by this process, with the journal that `changes` opens. */
export function ownKernel(changes: () => Changes): Kernel {
  return {
    async share(wanted, before) {
      await applyDeviceSharing(changes(), wanted, before)
      if (!wanted.grants.some(({ internet }) => internet)) return []
      const { outward4, outward6 } = await detectExitMachine()
      return [...(outward4 === undefined ? [] : [4 as const]), ...(outward6 === undefined ? [] : [6 as const])]
    },
    route: (tun, before, after) => applyDeviceRoutes(changes(), tun, before, after, kernelHasIpv6()),
    attached,
  }
}

/** Changes by the helper, which knows the interface and what it did before. */
export function helpersKernel(helper: HelperChannel): Kernel {
  return {
    async share({ grants }) {
      const { answer } = await helper.ask({ verb: 'meshGrants', grants })
      return answer.outward ?? []
    },
    async route(_tun, _before, networks) {
      await helper.ask({ verb: 'meshNetworks', networks })
    },
    attached,
  }
}

function attached(but: string): readonly IpPrefix[] {
  return Object.entries(networkInterfaces()).flatMap(([name, all = []]) =>
    name === but ? [] : all.filter(({ internal }) => !internal).flatMap(({ cidr }) => parsePrefix(cidr ?? '') ?? []),
  )
}
