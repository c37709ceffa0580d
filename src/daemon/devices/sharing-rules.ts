// What devices may use of this machine, and what of theirs is used here: by the configuration, by commands, and by what stands
// against it.

import { HopliteError } from '#api/errors.ts'
import { DEVICE_NETWORK, type DeviceAddresses } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import { DEVICES, INTERNET, type Sharing } from '#meet/sharing.ts'
import { overlapping, problemWith, readShareable } from '#mesh/shared-networks.ts'
import { MAX_SHARED_NETWORKS } from '#wire/device-sharing.ts'
import { covers, formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import type { Config } from '../config.ts'

const OF_DEVICES = parsePrefix(DEVICE_NETWORK) as IpPrefix
const EVERYTHING = [
  { address: '0.0.0.0', prefix: 0 },
  { address: '::', prefix: 0 },
] as const

/** A device or phone. */
export type Someone = Pick<Device, 'id' | 'name' | 'addresses'>

export interface SharingRulesOptions {
  readonly config: Config
  /** The rules of the configuration, as they are now. */
  readonly allow: () => Config['meet']['allow']
  /** What was offered and accepted by commands, and what is heard of others. */
  readonly sharing: Sharing
  /** Networks that this machine is attached to. */
  readonly attached: () => readonly IpPrefix[]
  /** Addresses that are reached outside of the tunnels. */
  readonly needed: () => readonly string[]
}

export class SharingRules {
  readonly #options: SharingRulesOptions
  #devices: readonly Someone[] = []

  constructor(options: SharingRulesOptions) {
    this.#options = options
  }

  /** These are the devices from now on, who was paired first before the others. */
  update(devices: readonly Someone[]): void {
    this.#devices = devices
  }

  /** What a device or phone may use by the configuration and by what was offered. */
  granted({ id, name }: Pick<Someone, 'id' | 'name'>): readonly string[] {
    const { config, sharing, allow } = this.#options
    const { offer, exit } = config.meet
    const bySetting = allow().flatMap(rule => {
      if (!('network' in rule) || (rule.device !== '*' && rule.device !== name)) return []
      if (rule.network === INTERNET) return exit ? [INTERNET] : []
      const network = normalNetwork(rule.network)
      return offer.some(wider => isWithin(network, wider)) ? [network] : []
    })
    const byCommand = sharing.offers.filter(({ to }) => to.includes('*') || to.includes(id))
    const granted = [...new Set([...bySetting, ...byCommand.map(({ network }) => network)])]
    // Devices ask for what lies behind another one there.
    const isDevice = this.#devices.some(device => device.id === id)
    return granted.filter(network => !isDevice || !this.isOnward(network)).slice(0, MAX_SHARED_NETWORKS)
  }

  /** Whether the way there is through another device, whatever it offers now. */
  isOnward(network: string): boolean {
    const { sharing } = this.#options
    const accepted = this.#devices.flatMap(({ id }) => [...sharing.accepted(id), ...this.settings(id)])
    return network === DEVICES || accepted.some(wider => isWithin(network, wider))
  }

  /** What a network in words is. */
  prefixesOf(network: string): readonly IpPrefix[] {
    if (network === INTERNET) return EVERYTHING
    const texts = network === DEVICES ? this.#devices.flatMap(({ addresses }) => listed(addresses)) : [network]
    return texts.flatMap(prefixesOf)
  }

  /** What leads to networks, as a phone's WireGuard has to know it. Devices that are paired later have IPv6 alone. */
  networksOf(reaches: readonly string[]): readonly IpPrefix[] {
    if (reaches.includes(INTERNET)) return EVERYTHING
    const networks = reaches
      .flatMap(network => this.prefixesOf(network))
      .filter(network => !covers(OF_DEVICES, network))
    return reaches.includes(DEVICES) ? [OF_DEVICES, ...networks] : networks
  }

  /** What is accepted of a device by the configuration. */
  settings(id: string): readonly string[] {
    const name = this.#devices.find(device => device.id === id)?.name
    return this.#options.config.meet.accept
      .filter(({ device }) => device === name)
      .map(({ network }) => normalNetwork(network))
  }

  /** Networks that lead to a device: offered, accepted and without a problem. */
  accepted(id: string): readonly string[] {
    const { sharing } = this.#options
    const wanted = new Set([...sharing.accepted(id), ...this.settings(id)])
    return sharing.offered(id).filter(network => wanted.has(network) && this.problemWith(id, network) === undefined)
  }

  /** Why a network cannot lead to a device, in words. */
  problemWith(id: string, text: string): string | undefined {
    const network = parsePrefix(text)
    if (network === undefined) return text === INTERNET ? undefined : 'it is no network'
    const { attached, needed } = this.#options
    const problem = problemWith(network, { devices: OF_DEVICES, attached: attached(), needed: needed() })
    if (problem !== undefined) return problem
    // Who was paired first keeps what it has.
    for (const { id: other, name } of this.#devices) {
      if (other === id) {
        const earlier = this.#wanted(id).slice(0, Math.max(this.#wanted(id).indexOf(text), 0))
        const own = overlapping(network, earlier.flatMap(prefixesOf))
        return own === undefined ? undefined : `it overlaps ${own}, which is accepted already`
      }
      const taken = overlapping(network, this.#wanted(other).flatMap(prefixesOf))
      if (taken !== undefined) return `it overlaps ${taken}, which is accepted of ${name}`
    }
    return undefined
  }

  /** What is offered by a device and accepted, whether it leads anywhere or not. */
  #wanted(id: string): readonly string[] {
    const { sharing } = this.#options
    const wanted = new Set([...sharing.accepted(id), ...this.settings(id)])
    return sharing.offered(id).filter(network => network !== INTERNET && wanted.has(network))
  }
}

/** The one form of what can be offered. Throws REQUEST_INVALID. */
export function offerable(text: string): string {
  if (text === INTERNET || text === DEVICES) return text
  const network = readShareable(text, OF_DEVICES)
  if (network !== undefined) return formatPrefix(network)
  const advice = 'write a private network like 192.168.1.0/24, or "internet"; "devices" for a phone'
  throw new HopliteError('REQUEST_INVALID', `offer "${text}": it cannot be offered`, advice)
}

/** A network in its one form, whatever is wrong with it. */
export function normalNetwork(text: string): string {
  const network = readShareable(text, OF_DEVICES)
  return network === undefined ? text : formatPrefix(network)
}

/** Whether what is granted is that network, or a part of it. */
export function isPartOf(network: string): (granted: string) => boolean {
  return granted => granted === network || (granted !== INTERNET && network !== INTERNET && isWithin(granted, network))
}

function isWithin(narrower: string, wider: string): boolean {
  const [inner, outer] = [parsePrefix(narrower), parsePrefix(wider)]
  return inner !== undefined && outer !== undefined && covers(outer, inner)
}

function prefixesOf(network: string): IpPrefix[] {
  const prefix = parsePrefix(network)
  return prefix === undefined ? [] : [prefix]
}

/** Every address of somebody. */
export function listed({ ipv4, ipv6 }: DeviceAddresses): string[] {
  return ipv4 === undefined ? [ipv6] : [ipv6, ipv4]
}
