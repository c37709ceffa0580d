// What devices may use of this machine, and what of theirs is used here: by the configuration, by commands, and by what stands
// against it.

import { DEVICE_NETWORK } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import { INTERNET, type Sharing } from '#meet/sharing.ts'
import { overlapping, problemWith, readShareable } from '#mesh/shared-networks.ts'
import { MAX_SHARED_NETWORKS } from '#wire/device-sharing.ts'
import { covers, formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import type { Config } from './config.ts'

const DEVICES = parsePrefix(DEVICE_NETWORK) as IpPrefix

/** A device or phone. */
export type Someone = Pick<Device, 'id' | 'name' | 'addresses'>

export interface SharingRulesOptions {
  readonly config: Config
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
  #phones: readonly Someone[] = []

  constructor(options: SharingRulesOptions) {
    this.#options = options
  }

  /** These are the devices, who was paired first before the others, and the phones from now on. */
  update(devices: readonly Someone[], phones: readonly Someone[]): void {
    this.#devices = devices
    this.#phones = phones
  }

  /** What a device or phone may use by the configuration and by what was offered. */
  granted(id: string): readonly string[] {
    const { config, sharing } = this.#options
    const { allow, offer, exit } = config.meet
    const name = [...this.#devices, ...this.#phones].find(each => each.id === id)?.name
    const bySetting = allow.flatMap(rule => {
      if (!('network' in rule) || (rule.device !== '*' && rule.device !== name)) return []
      if (rule.network === INTERNET) return exit ? [INTERNET] : []
      const network = normalNetwork(rule.network)
      return offer.some(wider => isWithin(network, wider)) ? [network] : []
    })
    const byCommand = sharing.offers.filter(({ to }) => to.includes('*') || to.includes(id))
    return [...new Set([...bySetting, ...byCommand.map(({ network }) => network)])].slice(0, MAX_SHARED_NETWORKS)
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
    const problem = problemWith(network, { devices: DEVICES, attached: attached(), needed: needed() })
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

/** What can be offered: a network, or `internet`. `undefined` for what cannot. */
export function readOffer(text: string): string | undefined {
  if (text === INTERNET) return text
  const network = readShareable(text, DEVICES)
  return network && formatPrefix(network)
}

/** A network in its one form, whatever is wrong with it. */
export function normalNetwork(text: string): string {
  const network = readShareable(text, DEVICES)
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
