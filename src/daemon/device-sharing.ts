// Networks and the internet, offered by one's devices to each other: who may use what of this machine, what is accepted of others,
// and the machine's network as both want it.
//
//   configuration, offers ──► grants ──kernel──► served ──► told to devices, and let in by the tunnels
//   told by devices, accepted ──► problem? reachable? ──kernel──► routes
//
// What is taken away is taken from the tunnels first, and then from the kernel; what is given goes the other way. The kernel is
// changed one change after the other, each with its undo in the journal.

import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { DEVICE_NETWORK, type DeviceAddresses } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import { DEVICES, INTERNET, Sharing } from '#meet/sharing.ts'
import type { PortRule } from '#mesh/firewall.ts'
import { MESH_MTU } from '#mesh/mesh.ts'
import { overlapping, problemWith, readShareable } from '#mesh/shared-networks.ts'
import type { DeviceGrant, DeviceRoute, DeviceSharing as KernelSharing } from '#platform/linux/device-network.ts'
import { NOT_PUBLIC_NETWORKS } from '#stream/exit-policy.ts'
import { MAX_SHARED_NETWORKS, type Shared } from '#wire/device-sharing.ts'
import { covers, formatPrefix, type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import type { Config } from './config.ts'
import type { Kernel } from './device-kernel.ts'
import { type Log, own } from './log.ts'
import { SharingFile } from './sharing-file.ts'

const OF_DEVICES = parsePrefix(DEVICE_NETWORK) as IpPrefix
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
}

/** What the tunnels need to know of a device. */
export interface DeviceAccess {
  readonly networks: readonly IpPrefix[]
  readonly reaches: readonly IpPrefix[]
  readonly rules: readonly PortRule[]
}

type Someone = Pick<Device, 'id' | 'name' | 'addresses'>
type Offered = Output<'devices'>['devices'][number]['offered']

export class DeviceSharing {
  readonly #options: DeviceSharingOptions
  readonly #kernel: Kernel
  readonly #file: SharingFile
  readonly #sharing: Sharing
  #self: { readonly name: string; readonly addresses: DeviceAddresses } | undefined
  #devices: readonly Someone[] = []
  #phones: readonly Someone[] = []
  readonly #reachable = new Set<string>()
  #tun: string | undefined
  /** The families that lead to the internet, where that is offered. */
  #outward: readonly (4 | 6)[] = []
  /** What may be used of this machine now, by the ids of devices and phones. */
  #served: ReadonlyMap<string, readonly string[]> = new Map()
  #kernelSharing: KernelSharing | undefined
  #routes: readonly DeviceRoute[] = []
  #problem: string | undefined
  #isClosed = false
  #applying: Promise<void> = Promise.resolve()
  #isQueued = false
  /** Whether the tunnels have said what interface there is. */
  #isReady = false
  /** Whether it is known what can be served. */
  #isSettled = false
  /** Whether the machine's own network may be another than when it was looked at. */
  #isStale = false

  /** Reads what was offered and accepted. Throws STATE_UNREADABLE. */
  constructor(options: DeviceSharingOptions) {
    this.#options = options
    this.#kernel = options.kernel
    this.#file = new SharingFile(options.stateDir)
    this.#sharing = new Sharing(this.#file.read())
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
    // Before it is known what can be served, nothing is taken back that was told in an earlier run.
    if (this.#isSettled) this.#sharing.update(new Map(devices.map(({ id }) => [id, this.#sharedWith(id)])), now)
    else this.#sharing.keep(new Set(devices.map(({ id }) => id)), self.name)
    this.#sharing.handleDeadline(now)
    this.#file.write(this.#sharing.state)
    this.#apply()
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
    this.#apply()
  }

  /** The tunnels have an interface now, or none. */
  handleInterface(name: string | undefined): void {
    this.#applying = this.#applying.then(() => {
      this.#isReady = true
      this.#tun = name
      // They went with the interface before.
      this.#routes = this.#routes.map(({ network }) => ({ network, isUp: false }))
      this.handleNetworkChange()
    })
  }

  /** The machine is elsewhere, or other addresses are needed there. */
  handleNetworkChange(): void {
    this.#isStale = true
    this.#apply()
  }

  /** What a device calls itself; `undefined` before it said so. */
  nameOf(id: string): string | undefined {
    return this.#sharing.heard(id)?.name
  }

  accessOf(id: string): DeviceAccess {
    const served = this.#served.get(id) ?? []
    const isThere = this.#devices.some(device => device.id === id) || served.length > 0
    if (!isThere) return NOTHING
    const reaches = served.flatMap(network => this.#prefixesOf(network))
    return {
      networks: [...this.#accepted(id).flatMap(network => parsePrefix(network) ?? []), ...this.#viaNetworks(id)],
      reaches,
      // Who goes to the internet through this machine asks it for names.
      rules: served.includes(INTERNET) ? NAMES : [],
    }
  }

  /** What a phone may use, in words; the internet only if it wants that. */
  reachesOf(phone: Pick<Someone, 'id' | 'name'>, wantsInternet: boolean): readonly string[] {
    return this.#granted(phone).filter(network => network !== INTERNET || wantsInternet)
  }

  /** What leads to that, as a phone's WireGuard has to know it. Devices that are paired later have IPv6 alone. */
  networksOf(reaches: readonly string[]): readonly IpPrefix[] {
    if (reaches.includes(INTERNET)) return [EVERYTHING[4], EVERYTHING[6]]
    const isOfDevices = reaches.includes(DEVICES)
    return [...(isOfDevices ? [OF_DEVICES] : []), ...reaches.flatMap(network => this.#prefixesOf(network))].filter(
      network => network === OF_DEVICES || !covers(OF_DEVICES, network),
    )
  }

  /** Whether a device or phone with this address asks us for names of the internet too. */
  answersFor(address: string): boolean {
    const everybody = [...this.#devices, ...this.#phones]
    const asker = everybody.find(({ addresses }) => addresses.ipv4 === address || addresses.ipv6 === address)
    return asker !== undefined && this.#served.get(asker.id)?.includes(INTERNET) === true
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
    const settings = [...offer.map(normal), ...(exit ? [INTERNET] : [])]
    const more = this.#sharing.offers.map(({ network }) => network).filter(network => !settings.includes(network))
    const everybody = [...this.#devices, ...this.#phones]
    return [...settings, ...more].map(network => {
      const isToAll = this.#sharing.offers.some(offered => offered.network === network && offered.to.includes('*'))
      const to = isToAll
        ? ['*']
        : everybody.filter(each => this.#granted(each).some(of(network))).map(({ name }) => name)
      return { network, to, isSetting: settings.includes(network) }
    })
  }

  /** Why what is offered is not to be had, in words. */
  get problem(): string | undefined {
    const isAnything = this.offers.some(({ to }) => to.length > 0)
    return isAnything && this.#tun === undefined
      ? 'there is no network interface for devices: run as root'
      : this.#problem
  }

  /** What a device offers, and what became of that. */
  offered(id: string): Offered {
    const accepted = this.#sharing.accepted(id)
    const said = this.#sharing.offered(id)
    const inUse = new Set(this.#accepted(id))
    return [...new Set([...said, ...accepted, ...this.#settings(id)])].map(network => {
      if (network === INTERNET) {
        const isVia = this.#options.via?.id === id
        return { network, isAccepted: isVia, isInUse: isVia && this.isVia }
      }
      const isAccepted = accepted.includes(network) || this.#settings(id).includes(network)
      const problem = said.includes(network)
        ? (this.#problemWith(id, network) ??
          (isAccepted && !this.#reachable.has(id) ? 'it is out of reach' : undefined))
        : 'it is not offered now'
      const isInUse = inUse.has(network) && this.#reachable.has(id) && this.#tun !== undefined
      return { network, isAccepted, isInUse, ...(problem !== undefined && { problem }) }
    })
  }

  /** Offers a network to devices, by their ids or `*`; gives it in its one form. Throws REQUEST_INVALID. */
  offer(text: string, to: readonly string[]): string {
    const name = offerable(text)
    const isForPhones = to.every(id => this.#phones.some(phone => phone.id === id))
    if (this.#isOnward(name) && !isForPhones) {
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
      if (this.#granted(phone).some(granted => granted === name)) continue
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
    const network = normal(text)
    if (this.#sharing.withdraw(network)) return network
    const isSetting = this.offers.some(offer => offer.network === network)
    const advice = isSetting ? 'the configuration says so: take it out of [meet]' : 'see what is: hoplite devices'
    throw new HopliteError('REQUEST_INVALID', `withdraw ${network}: it was not offered by a command`, advice)
  }

  /** Accepts what a device offers. Throws REQUEST_INVALID. */
  accept({ id, name }: Pick<Device, 'id' | 'name'>, text: string): string {
    const network = normal(text)
    const refuse = (why: string, advice: string) =>
      new HopliteError('REQUEST_INVALID', `accept ${network} of ${name}: ${why}`, advice)
    if (network === INTERNET) throw refuse('that is for the whole machine', `sudo hoplite up --tun --via ${name}`)
    if (!this.#sharing.offered(id).includes(network)) throw refuse('it offers no such network', 'hoplite devices')
    const problem = this.#problemWith(id, network)
    if (problem !== undefined) throw refuse(problem, 'another network would have to be offered')
    this.#sharing.accept(id, network)
    return network
  }

  /** Takes back what was accepted. Throws REQUEST_INVALID. */
  decline({ id, name }: Pick<Device, 'id' | 'name'>, text: string): string {
    const network = normal(text)
    if (this.#sharing.decline(id, network)) return network
    const isSetting = this.#settings(id).includes(network)
    const advice = isSetting ? 'the configuration says so: take it out of [meet]' : 'see what is: hoplite devices'
    throw new HopliteError('REQUEST_INVALID', `decline ${network} of ${name}: it was not accepted by a command`, advice)
  }

  /** Puts the machine's network back. */
  async close(): Promise<void> {
    this.#isClosed = true
    this.#served = new Map()
    this.#isQueued = false
    this.#apply()
    await this.#applying
  }

  #offer(network: string, to: readonly string[]): void {
    if (this.#sharing.offer({ network, to })) return
    throw new HopliteError('REQUEST_INVALID', `offer ${network}: there are ${MAX_SHARED_NETWORKS}`, 'withdraw one')
  }

  /** Whether the way there is through another device, whatever it offers now. */
  #isOnward(network: string): boolean {
    const accepted = this.#devices.flatMap(({ id }) => [...this.#sharing.accepted(id), ...this.#settings(id)])
    return network === DEVICES || accepted.some(wider => isWithin(network, wider))
  }

  #prefixesOf(network: string): readonly IpPrefix[] {
    if (network === INTERNET) return [EVERYTHING[4], EVERYTHING[6]]
    const texts = network === DEVICES ? this.#devices.flatMap(({ addresses }) => listed(addresses)) : [network]
    return texts.flatMap(text => parsePrefix(text) ?? [])
  }

  /** What is told to a device: what is served, which is not always what is wanted. */
  #sharedWith(id: string): Shared {
    const served = this.#served.get(id) ?? []
    const hasInternet = served.includes(INTERNET)
    return {
      name: this.#self?.name ?? '',
      networks: served.flatMap(network => (network === INTERNET ? [] : (parsePrefix(network) ?? []))),
      internet4: hasInternet && this.#outward.includes(4),
      internet6: hasInternet && this.#outward.includes(6),
    }
  }

  /** What a device or phone may use by the configuration and by what was offered. */
  #granted({ id, name }: Pick<Someone, 'id' | 'name'>): readonly string[] {
    const { allow, offer, exit } = this.#options.config.meet
    const bySetting = allow.flatMap(rule => {
      if (!('network' in rule) || (rule.device !== '*' && rule.device !== name)) return []
      if (rule.network === INTERNET) return exit ? [INTERNET] : []
      const network = normal(rule.network)
      return offer.some(wider => isWithin(network, wider)) ? [network] : []
    })
    const byCommand = this.#sharing.offers.filter(({ to }) => to.includes('*') || to.includes(id))
    const granted = [...new Set([...bySetting, ...byCommand.map(({ network }) => network)])]
    // Devices ask for what lies behind another one there.
    const isDevice = this.#devices.some(device => device.id === id)
    return granted.filter(network => !isDevice || !this.#isOnward(network)).slice(0, MAX_SHARED_NETWORKS)
  }

  /** What is accepted of a device by the configuration. */
  #settings(id: string): readonly string[] {
    const name = this.#devices.find(device => device.id === id)?.name
    return this.#options.config.meet.accept
      .filter(({ device }) => device === name)
      .map(({ network }) => normal(network))
  }

  /** Networks that lead to a device: offered, accepted and without a problem. */
  #accepted(id: string): readonly string[] {
    const wanted = new Set([...this.#sharing.accepted(id), ...this.#settings(id)])
    return this.#sharing
      .offered(id)
      .filter(network => wanted.has(network) && this.#problemWith(id, network) === undefined)
  }

  #problemWith(id: string, text: string): string | undefined {
    const network = parsePrefix(text)
    if (network === undefined) return text === INTERNET ? undefined : 'it is no network'
    const attached = this.#kernel.attached(this.#tun ?? '')
    const problem = problemWith(network, { devices: OF_DEVICES, attached, needed: this.#options.needed() })
    if (problem !== undefined) return problem
    // Who was paired first keeps what it has.
    for (const { id: other, name } of this.#devices) {
      if (other === id) {
        const earlier = this.#wanted(id).slice(0, Math.max(this.#wanted(id).indexOf(text), 0))
        const own = overlapping(
          network,
          earlier.flatMap(each => parsePrefix(each) ?? []),
        )
        return own === undefined ? undefined : `it overlaps ${own}, which is accepted already`
      }
      const taken = overlapping(
        network,
        this.#wanted(other).flatMap(each => parsePrefix(each) ?? []),
      )
      if (taken !== undefined) return `it overlaps ${taken}, which is accepted of ${name}`
    }
    return undefined
  }

  /** What is offered by a device and accepted, whether it leads anywhere or not. */
  #wanted(id: string): readonly string[] {
    const wanted = new Set([...this.#sharing.accepted(id), ...this.#settings(id)])
    return this.#sharing.offered(id).filter(network => network !== INTERNET && wanted.has(network))
  }

  #viaNetworks(id: string): readonly IpPrefix[] {
    const { via } = this.#options
    const heard = this.#sharing.heard(id)
    if (via?.id !== id || heard === undefined) return []
    return [...(heard.internet4 ? [EVERYTHING[4]] : []), ...(heard.internet6 && via.hasIpv6 ? [EVERYTHING[6]] : [])]
  }

  #changed(): void {
    if (!this.#isClosed) this.#options.onChange()
  }

  /** Brings the kernel to what is wanted, once, after whatever is under way. */
  #apply(): void {
    if (this.#isQueued) return
    this.#isQueued = true
    this.#applying = this.#applying.then(async () => {
      this.#isQueued = false
      await this.#share().catch(error => this.#fail(error))
      if (this.#isReady && !this.#isSettled && !this.#isClosed) {
        this.#isSettled = true
        this.#changed()
      }
      await this.#route().catch(error => this.#fail(error))
    })
  }

  #fail(error: unknown): void {
    const { message } = error as Error
    if (message !== this.#problem) this.#options.log.error('networks of devices', { error: own(message) })
    this.#problem = message
  }

  async #share(): Promise<void> {
    const wanted = this.#isClosed ? undefined : this.#wantedSharing()
    const before = this.#kernelSharing
    const isStale = this.#isStale
    this.#isStale = false
    if (!isStale && JSON.stringify(wanted?.kernel) === JSON.stringify(before)) return
    if (wanted === undefined && before === undefined) return
    const kept = [...this.#served].flatMap(([id, networks]) => {
      const left = networks.filter(network => wanted?.served.get(id)?.includes(network))
      return left.length === 0 ? [] : [[id, left] as const]
    })
    const isLess = kept.flat(2).length < [...this.#served].flat(2).length
    this.#served = new Map(kept)
    if (isLess) this.#changed()
    const none = before && { ...before, grants: [] }
    const kernel = wanted?.kernel ?? none
    // Until it is done nobody knows what holds.
    this.#kernelSharing = before && { ...before, own: [] }
    if (kernel !== undefined) this.#outward = await this.#kernel.share(kernel, before)
    this.#kernelSharing = wanted?.kernel
    this.#served = wanted?.served ?? new Map()
    this.#problem = undefined
    this.#changed()
  }

  #wantedSharing():
    | { readonly kernel: KernelSharing; readonly served: ReadonlyMap<string, readonly string[]> }
    | undefined {
    const tun = this.#tun
    if (tun === undefined || this.#self === undefined) return undefined
    const served = new Map<string, readonly string[]>()
    const grants: DeviceGrant[] = []
    for (const each of [...this.#devices, ...this.#phones]) {
      const granted = this.#granted(each)
      if (granted.length === 0) continue
      served.set(each.id, granted)
      const [onward, behind] = [true, false].map(is => granted.filter(network => this.#isOnward(network) === is))
      grants.push({
        addresses: listed(each.addresses),
        networks: (behind ?? []).filter(network => network !== INTERNET),
        onward: (onward ?? []).flatMap(network => this.#prefixesOf(network).map(formatPrefix)),
        internet: granted.includes(INTERNET),
      })
    }
    if (grants.length === 0) return undefined
    const { addresses } = this.#self
    const kernel = { tun, mtu: MESH_MTU, own: listed(addresses), denied: NOT_PUBLIC_NETWORKS, grants }
    return { kernel, served }
  }

  async #route(): Promise<void> {
    const tun = this.#tun
    const wanted = this.#isClosed ? [] : this.#wantedRoutes()
    if (tun === undefined || JSON.stringify(wanted) === JSON.stringify(this.#routes)) return
    const before = this.#routes
    await this.#kernel.route(tun, before, wanted)
    this.#routes = wanted
    this.#changed()
  }

  #wantedRoutes(): DeviceRoute[] {
    const accepted = this.#devices.flatMap(({ id }) => {
      return this.#accepted(id).map(network => ({ network, isUp: this.#reachable.has(id) }))
    })
    if (!this.#options.isShut) return accepted
    const everybody = [...this.#devices, ...this.#phones].flatMap(({ addresses }) => addresses.ipv4 ?? [])
    const own = [DEVICE_NETWORK, ...everybody.map(address => `${address}/32`)]
    return [...own.map(network => ({ network, isUp: true })), ...accepted]
  }
}

/** A network in its one form, whatever is wrong with it. */
function normal(text: string): string {
  const network = readShareable(text, OF_DEVICES)
  return network === undefined ? text : formatPrefix(network)
}

/** The one form of what can be offered. Throws REQUEST_INVALID. */
function offerable(text: string): string {
  if (text === INTERNET || text === DEVICES) return text
  const network = readShareable(text, OF_DEVICES)
  if (network !== undefined) return formatPrefix(network)
  const advice = 'write a private network like 192.168.1.0/24, or "internet"; "devices" for a phone'
  throw new HopliteError('REQUEST_INVALID', `offer "${text}": it cannot be offered`, advice)
}

function of(network: string): (granted: string) => boolean {
  return granted => granted === network || (granted !== INTERNET && network !== INTERNET && isWithin(granted, network))
}

function isWithin(narrower: string, wider: string): boolean {
  const [inner, outer] = [parsePrefix(narrower), parsePrefix(wider)]
  return inner !== undefined && outer !== undefined && covers(outer, inner)
}

function listed({ ipv4, ipv6 }: DeviceAddresses): string[] {
  return ipv4 === undefined ? [ipv6] : [ipv6, ipv4]
}
