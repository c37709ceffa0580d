// Which addresses of the machine a peer is told: those of real links, not of containers, virtual machines, other VPNs or our own
// tunnel. An address that leads into a tunnel would carry our packets into it, and tells who is whose customer.

import { parseIp } from '#wire/address.ts'
import { isUnreachable } from './base.ts'

/** One address of one interface, as `os.networkInterfaces()` lists them. */
export interface InterfaceAddress {
  readonly name: string
  readonly address: string
  readonly isInternal: boolean
}

const MAX_HOSTS = 8

/** Interfaces of containers, hypervisors and VPNs, by the names that their software gives them. */
const VIRTUAL = new RegExp(
  `^(${[
    ...['docker', 'br-', 'veth', 'cni', 'flannel', 'cali', 'podman', 'lxc', 'lxd', 'incus', 'kube-', 'cilium', 'weave'],
    ...[
      'virbr',
      'vnet',
      'vmnet',
      'vboxnet',
      'vEthernet',
      'hyper-v',
      'VMware',
      'VirtualBox',
      'bridge1',
      'anbox',
      'waydroid',
    ],
    ...['tun', 'tap', 'wg', 'utun', 'ipsec', 'gre', 'sit', 'teredo', 'isatap', '6to4', 'nebula', 'hoplite'],
    ...[
      'tailscale',
      'zt',
      'nordlynx',
      'proton',
      'mullvad',
      'wireguard',
      'openvpn',
      'cscotun',
      'gpd',
      'ham',
      'awdl',
      'llw',
    ],
  ].join('|')})`,
  'i',
)

/**
 * Addresses to offer, IPv6 first, at most 8.
 *
 * @param ownInterfaces names of our own tunnels, whatever they are called
 */
export function hostAddresses(
  interfaces: readonly InterfaceAddress[],
  ownInterfaces: readonly string[] = [],
): readonly string[] {
  const hosts = interfaces
    .filter(({ name, isInternal }) => !isInternal && !VIRTUAL.test(name) && !ownInterfaces.includes(name))
    .map(({ address }) => address.split('%')[0] ?? '')
    .filter(address => !isUnreachable(address))
  const unique = [...new Set(hosts)]
  const length = (host: string) => parseIp(host)?.length ?? 0
  return unique.toSorted((a, b) => length(b) - length(a)).slice(0, MAX_HOSTS)
}
