// Networks and the internet, offered by one's devices to each other: who may use what of this machine, what is accepted of others,
// and the machine's network as both want it.
//
//   configuration, offers ──rules──► granted ──kernel──► served ──► told to devices, and let in by the tunnels
//   told by devices, accepted ──rules──► problem? reachable? ──kernel──► routes

import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { DEVICE_NETWORK, type DeviceAddresses } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import { DEVICES, INTERNET, Sharing } from '#meet/sharing.ts'
import type { PortRule } from '#mesh/firewall.ts'
import { MESH_MTU } from '#mesh/mesh.ts'
import type { DeviceGrant, DeviceRoute } from '#platform/linux/network/device-network.ts'
import { NOT_PUBLIC_NETWORKS } from '#stream/exit-policy.ts'
import { MAX_SHARED_NETWORKS, type Shared } from '#wire/device-sharing.ts'
import { formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import type { Config } from '../config.ts'
import type { Log } from '../log.ts'
import type { Kernel } from './device-kernel.ts'
import { KernelSharing, type WantedSharing } from './kernel-sharing.ts'
import { SharingFile } from './sharing-file.ts'
import { isPartOf, listed, normalNetwork, offerable, SharingRules, type Someone } from './sharing-rules.ts'

const EVERYTHING = { 4: { address: '0.0.0.0', prefix: 0 }, 6: { address: '::', prefix: 0 } } as const
const NAMES = (['udp', 'tcp'] as const).map(protocol => ({ protocol, fromPort: 53, toPort: 53 }))
const NOTHING: DeviceAccess = { networks: [], reaches: [], rules: [] }

/** The device that the whole machine goes through. */
export interface ViaDevice {
  readonly id: string
  readonly hasIpv6: boolean
}

export interface DeviceSharingOptions {
  readonly config: Config
  readonly stateDir: string
  readonly log: Log
  /** Addresses that are reached outside of the tunnels. */
  readonly needed: () => readonly string[]
  /** Something is served, or reached, that was not before, or the other way round. */
  readonly onChange: () => void
  /** Whether devices must be found although the rest of the machine's packets goes elsewhere. */
  readonly isShut: boolean
  readonly via?: ViaDevice
  /** What is done to the machine. */
  readonly kernel: Kernel
  /** The rules of the configuration, as they are now. */
  readonly allow?: () => Config['meet']['allow']
}

/** What the tunnels need to know of a device. */
export interface DeviceAccess {
  readonly networks: readonly IpPrefix[]
  readonly reaches: readonly IpPrefix[]
  readonly rules: readonly PortRule[]
}

type Offered = Output<'devices'>['devices'][number]['offered']

export class DeviceSharing {
  readonly #options: DeviceSharingOptions
  readonly #kernel: KernelSharing
  readonly #rules: SharingRules
  readonly #file: SharingFile
  readonly #sharing: Sharing
  #self: { readonly name: string; readonly addresses: DeviceAddresses } | undefined
  #devices: readonly Someone[] = []
  #phones: readonly Someone[] = []
  readonly #reachable = new Set<string>()

  /** Reads what was offered and accepted. Throws STATE_UNREADABLE. */
  constructor(options: DeviceSharingOptions) {
    this.#options = options
    const { config, kernel, log, needed, onChange } = options
    const { allow = () => config.meet.allow } = options
    this.#file = new SharingFile(options.stateDir)
    this.#sharing = new Sharing(this.#file.read())
    this.#kernel = new KernelSharing({
      ...{ kernel, log, onChange },
      sharing: tun => this.#wantedSharing(tun),
      routes: () => this.#wantedRoutes(),
    })
    const attached = () => kernel.attached(this.#kernel.tun ?? '')
    this.#rules = new SharingRules({ config, allow, sharing: this.#sharing, attached, needed })
  }

  /** These are the devices and phones from now on, and we. */
  update(
    self: { readonly name: string; readonly addresses: DeviceAddresses },
    devices: readonly Someone[],
    phones: readonly Someone[],
    now: number,
  ): void {
    this.#self = self
    this.#devices = devices
    this.#phones = phones
    this.#rules.update(devices)
    // Before it is known what can be served, nothing is taken back that was told in an earlier run.
    if (this.#kernel.isSettled) this.#sharing.update(new Map(devices.map(({ id }) => [id, this.#sharedWith(id)])), now)
    else this.#sharing.keep(new Set(devices.map(({ id }) => id)), self.name)
    this.#sharing.handleDeadline(now)
    this.#file.write(this.#sharing.state)
    this.#kernel.apply()
  }

  /** What is to be said now, by the ids of devices. */
  take(): ReadonlyMap<string, Uint8Array> {
    return this.#sharing.take()
  }

  deadline(): number {
    return this.#sharing.deadline()
  }

  /** What a device says of what it offers. */
  handle(id: string, data: Uint8Array, now: number): void {
    if (!this.#sharing.handle(id, data, now)) this.#options.log.debug('an offer was not understood')
  }

  handleReset(id: string, now: number): void {
    this.#sharing.handleReset(id, now)
  }

  handlePath(id: string, isReachable: boolean): void {
    if (isReachable) this.#reachable.add(id)
    else this.#reachable.delete(id)
    this.#kernel.apply()
  }

  /** The tunnels have an interface now, or none. */
  handleInterface(name: string | undefined): void {
    this.#kernel.handleInterface(name)
  }

  /** The machine is elsewhere, or other addresses are needed there. */
  handleNetworkChange(): void {
    this.#kernel.handleNetworkChange()
  }

  /** What a device calls itself; `undefined` before it said so. */
  nameOf(id: string): string | undefined {
    return this.#sharing.heard(id)?.name
  }

  accessOf(id: string): DeviceAccess {
    const served = this.#kernel.served.get(id) ?? []
    const isThere = this.#devices.some(device => device.id === id) || served.length > 0
    if (!isThere) return NOTHING
    const reaches = served.flatMap(network => this.#rules.prefixesOf(network))
    return {
      networks: [...this.#rules.accepted(id).flatMap(network => parsePrefix(network) ?? []), ...this.#viaNetworks(id)],
      reaches,
      // Who goes to the internet through this machine asks it for names.
      rules: served.includes(INTERNET) ? NAMES : [],
    }
  }

  /** What a phone may use, in words; the internet only if it wants that. */
  reachesOf(phone: Pick<Someone, 'id' | 'name'>, wantsInternet: boolean): readonly string[] {
    return this.#rules.granted(phone).filter(network => network !== INTERNET || wantsInternet)
  }

  /** What leads to that, as a phone's WireGuard has to know it. Devices that are paired later have IPv6 alone. */
  networksOf(reaches: readonly string[]): readonly IpPrefix[] {
    return this.#rules.networksOf(reaches)
  }

  /** Whether a device or phone with this address asks us for names of the internet too. */
  answersFor(address: string): boolean {
    const everybody = [...this.#devices, ...this.#phones]
    const asker = everybody.find(({ addresses }) => addresses.ipv4 === address || addresses.ipv6 === address)
    return asker !== undefined && this.#kernel.served.get(asker.id)?.includes(INTERNET) === true
  }

  /** Whether the whole machine's packets are carried. */
  get isVia(): boolean {
    const { via } = this.#options
    return via !== undefined && this.#reachable.has(via.id) && this.#viaNetworks(via.id).length > 0
  }

  /** Why the device does not carry the whole machine's packets, in words. */
  get viaProblem(): string | undefined {
    const { via } = this.#options
    const device = this.#devices.find(({ id }) => id === via?.id)
    if (via === undefined || this.isVia) return undefined
    if (device === undefined) return 'the device that this machine goes through is paired no more'
    if (!this.#sharing.offered(via.id).includes(INTERNET)) return `${device.name} does not offer the internet any more`
    return `${device.name} is out of reach`
  }

  /** What is offered, and to whom. */
  get offers(): Output<'devices'>['own']['offers'] {
    const { offer, exit } = this.#options.config.meet
    const settings = [...offer.map(normalNetwork), ...(exit ? [INTERNET] : [])]
    const more = this.#sharing.offers.map(({ network }) => network).filter(network => !settings.includes(network))
    const everybody = [...this.#devices, ...this.#phones]
    return [...settings, ...more].map(network => {
      const isToAll = this.#sharing.offers.some(offered => offered.network === network && offered.to.includes('*'))
      const to = isToAll
        ? ['*']
        : everybody.filter(each => this.#rules.granted(each).some(isPartOf(network))).map(({ name }) => name)
      return { network, to, isSetting: settings.includes(network) }
    })
  }

  /** Why what is offered is not to be had, in words. */
  get problem(): string | undefined {
    const isAnything = this.offers.some(({ to }) => to.length > 0)
    return isAnything && this.#kernel.tun === undefined
      ? 'there is no network interface for devices: run as root'
      : this.#kernel.problem
  }

  /** What a device offers, and what became of that. */
  offered(id: string): Offered {
    const accepted = this.#sharing.accepted(id)
    const said = this.#sharing.offered(id)
    const inUse = new Set(this.#rules.accepted(id))
    return [...new Set([...said, ...accepted, ...this.#rules.settings(id)])].map(network => {
      if (network === INTERNET) {
        const isVia = this.#options.via?.id === id
        return { network, isAccepted: isVia, isInUse: isVia && this.isVia }
      }
      const isAccepted = accepted.includes(network) || this.#rules.settings(id).includes(network)
      const problem = said.includes(network)
        ? (this.#rules.problemWith(id, network) ??
          (isAccepted && !this.#reachable.has(id) ? 'it is out of reach' : undefined))
        : 'it is not offered now'
      const isInUse = inUse.has(network) && this.#reachable.has(id) && this.#kernel.tun !== undefined
      return { network, isAccepted, isInUse, ...(problem !== undefined && { problem }) }
    })
  }

  /** Offers a network to devices, by their ids or `*`; gives it in its one form. Throws REQUEST_INVALID. */
  offer(text: string, to: readonly string[]): string {
    const name = offerable(text)
    const isForPhones = to.every(id => this.#phones.some(phone => phone.id === id))
    if (this.#rules.isOnward(name) && !isForPhones) {
      const why =
        name === DEVICES ? 'devices reach each other' : 'it lies behind another device, which offers it itself'
      throw new HopliteError('REQUEST_INVALID', `offer ${name}: ${why}`, 'offer it to a phone: --to PHONE')
    }
    this.#offer(name, to)
    return name
  }

  /** Offers networks to a phone that is being added, besides those who may use them already. Throws REQUEST_INVALID. */
  offerToPhone(texts: readonly string[], phone: Pick<Someone, 'id' | 'name'>): void {
    for (const name of texts.map(offerable)) {
      if (this.#rules.granted(phone).some(granted => granted === name)) continue
      const to = this.#sharing.offers.find(({ network }) => network === name)?.to ?? []
      this.#offer(name, [...to, phone.id])
    }
  }

  /** That phone is gone: what was offered to it alone is offered no more. */
  forgetPhone(id: string): void {
    for (const { network, to } of this.#sharing.offers) {
      if (!to.includes(id)) continue
      const others = to.filter(each => each !== id)
      if (others.length === 0) this.#sharing.withdraw(network)
      else this.#sharing.offer({ network, to: others })
    }
  }

  /** Ends an offer. Throws REQUEST_INVALID. */
  withdraw(text: string): string {
    const network = normalNetwork(text)
    if (this.#sharing.withdraw(network)) return network
    const isSetting = this.offers.some(offer => offer.network === network)
    const advice = isSetting ? 'the configuration says so: take it out of [meet]' : 'see what is: hoplite devices'
    throw new HopliteError('REQUEST_INVALID', `withdraw ${network}: it was not offered by a command`, advice)
  }

  /** Accepts what a device offers. Throws REQUEST_INVALID. */
  accept({ id, name }: Pick<Device, 'id' | 'name'>, text: string): string {
    const network = normalNetwork(text)
    const refuse = (why: string, advice: string) =>
      new HopliteError('REQUEST_INVALID', `accept ${network} of ${name}: ${why}`, advice)
    if (network === INTERNET) throw refuse('that is for the whole machine', `sudo hoplite up --tun --via ${name}`)
    if (!this.#sharing.offered(id).includes(network)) throw refuse('it offers no such network', 'hoplite devices')
    const problem = this.#rules.problemWith(id, network)
    if (problem !== undefined) throw refuse(problem, 'another network would have to be offered')
    this.#sharing.accept(id, network)
    return network
  }

  /** Takes back what was accepted. Throws REQUEST_INVALID. */
  decline({ id, name }: Pick<Device, 'id' | 'name'>, text: string): string {
    const network = normalNetwork(text)
    if (this.#sharing.decline(id, network)) return network
    const isSetting = this.#rules.settings(id).includes(network)
    const advice = isSetting ? 'the configuration says so: take it out of [meet]' : 'see what is: hoplite devices'
    throw new HopliteError('REQUEST_INVALID', `decline ${network} of ${name}: it was not accepted by a command`, advice)
  }

  /** Puts the machine's network back. */
  async close(): Promise<void> {
    await this.#kernel.close()
  }

  #offer(network: string, to: readonly string[]): void {
    if (this.#sharing.offer({ network, to })) return
    throw new HopliteError('REQUEST_INVALID', `offer ${network}: there are ${MAX_SHARED_NETWORKS}`, 'withdraw one')
  }

  /** What is told to a device: what is served, which is not always what is wanted. */
  #sharedWith(id: string): Shared {
    const served = this.#kernel.served.get(id) ?? []
    const hasInternet = served.includes(INTERNET)
    return {
      name: this.#self?.name ?? '',
      networks: served.flatMap(network => (network === INTERNET ? [] : (parsePrefix(network) ?? []))),
      internet4: hasInternet && this.#kernel.outward.includes(4),
      internet6: hasInternet && this.#kernel.outward.includes(6),
    }
  }

  #viaNetworks(id: string): readonly IpPrefix[] {
    const { via } = this.#options
    const heard = this.#sharing.heard(id)
    if (via?.id !== id || heard === undefined) return []
    return [...(heard.internet4 ? [EVERYTHING[4]] : []), ...(heard.internet6 && via.hasIpv6 ? [EVERYTHING[6]] : [])]
  }

  #wantedSharing(tun: string): WantedSharing | undefined {
    if (this.#self === undefined) return undefined
    const served = new Map<string, readonly string[]>()
    const grants: DeviceGrant[] = []
    for (const each of [...this.#devices, ...this.#phones]) {
      const granted = this.#rules.granted(each)
      if (granted.length === 0) continue
      served.set(each.id, granted)
      const [onward, behind] = [true, false].map(is => granted.filter(network => this.#rules.isOnward(network) === is))
      grants.push({
        addresses: listed(each.addresses),
        networks: (behind ?? []).filter(network => network !== INTERNET),
        onward: (onward ?? []).flatMap(network => this.#rules.prefixesOf(network).map(formatPrefix)),
        internet: granted.includes(INTERNET),
      })
    }
    if (grants.length === 0) return undefined
    const { addresses } = this.#self
    const kernel = { tun, mtu: MESH_MTU, own: listed(addresses), denied: NOT_PUBLIC_NETWORKS, grants }
    return { kernel, served }
  }

  #wantedRoutes(): DeviceRoute[] {
    const accepted = this.#devices.flatMap(({ id }) => {
      return this.#rules.accepted(id).map(network => ({ network, isUp: this.#reachable.has(id) }))
    })
    if (!this.#options.isShut) return accepted
    const everybody = [...this.#devices, ...this.#phones].flatMap(({ addresses }) => addresses.ipv4 ?? [])
    const own = [DEVICE_NETWORK, ...everybody.map(address => `${address}/32`)]
    return [...own.map(network => ({ network, isUp: true })), ...accepted]
  }
}
