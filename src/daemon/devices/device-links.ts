// The tunnels to one's devices: who is in them, and what is known of each. What is said of paths is each link's (device-link.ts).

import type { DeviceAddresses } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import type { OwnDevice } from '#meet/own-device.ts'
import {
  type LinkPath,
  type LinkPeer,
  type MeshEngine,
  type MeshEvent,
  type MeshNames,
  type MeshSettings,
  startMesh,
} from '#platform/paths/mesh-engine.ts'
import { type Address, parseAddress } from '#wire/address.ts'
import { decodeDeviceSignal } from '#wire/device-signal.ts'
import type { Config } from '../config.ts'
import { type Log, own } from '../log.ts'
import { DeviceLink, type DeviceMeetings, type MeetingNews } from './device-link.ts'
import { DevicePorts } from './device-ports.ts'
import type { DeviceAccess } from './device-sharing.ts'
import { linkSettings } from './link-settings.ts'
import type { Phone } from './phones.ts'

const PING_LIMIT_MS = 6_000
const NO_NAMES: MeshNames = { places: [], isTold: false }

export interface DeviceLinksOptions {
  readonly config: Config
  readonly log: Log
  /** Servers to ask for our address when the configuration names none. */
  readonly stunServers?: () => readonly Address[]
  /** Carries something to a device by letter. */
  readonly say: (id: string, data: Uint8Array) => void
  /** Where devices meet while no direct way is known. */
  readonly meetings?: DeviceMeetings
  /** There is a network interface now, or none any more. */
  readonly onInterface?: (name: string | undefined, openNames: () => Promise<MeshNames>) => void
  /** Which networks lead to a device, and which it may reach behind this one. */
  readonly accessOf?: (id: string) => DeviceAccess
  /** Whether packets reach a device, from now on. */
  readonly onReachable?: (id: string, isReachable: boolean) => void
  /** The rules of the configuration, as they are now. */
  readonly allow?: () => Config['meet']['allow']
  /** The network interface that there is to be, where the configuration wants one. */
  readonly tun?: Exclude<MeshSettings['tun'], { readonly kind: 'none' }>
  /** The tunnels are gone, of a bug. */
  readonly onFailure?: (error: Error) => void
  /** The machine's network is shut but for what was let through; the links speak to these hosts. */
  readonly onHosts?: (hosts: readonly string[]) => void
  /** What starts the tunnels; tests have another. */
  readonly start?: typeof startMesh
}

/** What is known of the way to a device. */
export interface LinkStatus {
  readonly path: LinkPath | undefined
  readonly isUp: boolean
  readonly rxBytes: number
  readonly txBytes: number
}

export class DeviceLinks {
  readonly #options: DeviceLinksOptions
  /** When the tunnels began, as the others are told. */
  #begunMs = 0
  #hasStun = false
  #isRestarting = false
  readonly #links = new Map<string, DeviceLink>()
  readonly #waiting = new Map<number, (event: MeshEvent) => void>()
  readonly #ports: DevicePorts
  #update: () => void = () => undefined
  #prepare: () => void = () => undefined
  #engine: MeshEngine | undefined
  #interface: string | undefined
  #told = ''
  #nextPeer = 1
  #nextRequest = 1

  constructor(options: DeviceLinksOptions) {
    this.#options = options
    const { config, allow = () => config.meet.allow } = options
    this.#ports = new DevicePorts(allow, () => this.#update())
  }

  /** The network interface of the tunnels, where there is one. */
  get interface(): string | undefined {
    return this.#interface
  }

  /** These are the devices from now on. A tunnel begins when both have spoken, and ends at once with its device. */
  update(self: OwnDevice, addresses: DeviceAddresses, devices: readonly Device[], phones: readonly Phone[] = []): void {
    if (!this.#options.config.meet.tunnel) return
    this.#update = () => this.update(self, addresses, devices, phones)
    const ready = devices.filter(({ tunnelSecret }) => tunnelSecret !== undefined)
    if (this.#isRestarting || (this.#engine === undefined && ready.length + phones.length === 0)) return
    this.#engine ??= this.#start(self, addresses)
    const ids = new Set([...ready, ...phones].map(({ id }) => id))
    for (const [id, link] of this.#links) {
      if (ids.has(id)) continue
      link.close()
      this.#links.delete(id)
      this.#options.onReachable?.(id, false)
    }
    const peers = [
      ...ready.map(device => this.#peerOf(device, self.id)),
      ...phones.map(phone => this.#peerOfPhone(phone)),
    ]
    const privateKey = self.keys[0].tunnel.privateKey
    const told = JSON.stringify([Buffer.from(privateKey).toString('hex'), peers])
    if (told === this.#told) return
    this.#told = told
    this.#engine.send({ kind: 'peers', privateKey, peers })
    // The relay is spoken to while it is still found out where we are.
    for (const { id } of ready) this.#links.get(id)?.meetEarly()
  }

  /** A device is about to be paired: the tunnels start meanwhile, once it is known whom to ask for our address. */
  prepare(self: OwnDevice, addresses: DeviceAddresses): void {
    const { config } = this.#options
    if (!config.meet.tunnel) return
    this.#prepare = () => {
      const knowsServers = this.#stunServers().length > 0 || config.network.bootstrap.length === 0
      if (knowsServers && !this.#isRestarting) this.#engine ??= this.#start(self, addresses)
    }
    this.#prepare()
  }

  /** More servers and relays may be known: tunnels that began without any, and reach nobody, begin anew. */
  async handleServersKnown(): Promise<void> {
    this.#prepare()
    const isStuck = ![...this.#links.values()].some(({ path }) => path !== undefined)
    if (this.#engine === undefined || this.#hasStun || !isStuck || this.#stunServers().length === 0) {
      for (const link of this.#links.values()) link.meetAtLast()
      return
    }
    const engine = this.#engine
    this.#engine = undefined
    this.#isRestarting = true
    this.#interface = undefined
    this.#options.onInterface?.(undefined, async () => NO_NAMES)
    await engine.close()
    this.#isRestarting = false
    this.#told = ''
    for (const link of this.#links.values()) link.forget()
    this.#update()
  }

  /** Opens a port to a device's id, or to all by `*`, for a while; 0 closes it. False when 64 are open. */
  allow(device: string, port: number, forMs: number): boolean {
    return this.#ports.allow(device, port, forMs)
  }

  /** What a device says by letter. */
  handle(id: string, data: Uint8Array): void {
    const signal = decodeDeviceSignal(data)
    if (signal !== undefined) this.#links.get(id)?.handleSignal(signal)
  }

  /** What became of a meeting at a relay. */
  handleMeeting(news: MeetingNews): void {
    this.#linkOf(news.peer)?.handleMeeting(news)
  }

  /** A session with the device was lost, and what was said in it with that: it is told anew. */
  handleReset(id: string): void {
    this.#links.get(id)?.handleReset()
  }

  /** The ways to devices, by their ids. */
  async status(): Promise<Map<string, LinkStatus>> {
    const event = await this.#ask(request => ({ kind: 'status', request }))
    const peers = event?.kind === 'status' ? event.peers : []
    return new Map(
      [...this.#links.values()].map(({ id, peer, path }) => {
        const { isUp = false, rxBytes = 0, txBytes = 0 } = peers.find(each => each.peer === peer) ?? {}
        return [id, { path, isUp, rxBytes, txBytes }]
      }),
    )
  }

  /** The round trip to a device through its tunnel; `undefined` when no echo came back in five seconds. */
  async ping(id: string): Promise<{ readonly path: LinkPath | undefined; readonly rttMs: number | undefined }> {
    const link = this.#links.get(id)
    if (link === undefined) return { path: undefined, rttMs: undefined }
    const event = await this.#ask(request => ({ kind: 'ping', peer: link.peer, request }))
    return { path: link.path, rttMs: event?.kind === 'pong' ? event.rttMs : undefined }
  }

  async close(): Promise<void> {
    for (const link of this.#links.values()) link.close()
    this.#ports.close()
    this.#links.clear()
    await this.#engine?.close()
  }

  #start(self: OwnDevice, addresses: DeviceAddresses): MeshEngine {
    const { config, log, tun, start = startMesh } = this.#options
    this.#begunMs = Date.now()
    const stunServers = this.#stunServers()
    this.#hasStun = stunServers.length > 0
    const isShut = this.#options.onHosts !== undefined
    return start(
      linkSettings(self, addresses, { config, log, stunServers, tun, isShut }),
      event => this.#handleEvent(event),
      error => {
        log.error('tunnels failed', { error: own(error.message) })
        this.#options.onFailure?.(error)
      },
    )
  }

  #stunServers(): readonly Address[] {
    const named = this.#options.config.meet.stun.flatMap(text => parseAddress(text) ?? [])
    return named.length > 0 ? named : (this.#options.stunServers?.() ?? [])
  }

  #peerOf({ id, card, addresses, tunnelSecret, name }: Device, ownId: string): LinkPeer {
    const link = this.#links.get(id) ?? this.#newLink(id, ownId < id)
    const { ipv6, ipv4 } = addresses
    return {
      peer: link.peer,
      publicKey: card.tunnelKey,
      presharedKey: tunnelSecret as Uint8Array,
      addresses: ipv4 === undefined ? [ipv6] : [ipv6, ipv4],
      ...this.#access(id, name),
      isControlling: link.isControlling,
    }
  }

  #peerOfPhone({ id, name, publicKey, presharedKey, addresses: { ipv6, ipv4 } }: Phone): LinkPeer {
    const { peer } = this.#links.get(id) ?? this.#newLink(id, false)
    const addresses = ipv4 === undefined ? [ipv6] : [ipv6, ipv4]
    const access = this.#access(id, name)
    return { peer, publicKey, presharedKey, addresses, ...access, isControlling: false, isPlain: true }
  }

  #access(id: string, name: string): DeviceAccess {
    const { networks, reaches, rules } = this.#options.accessOf?.(id) ?? { networks: [], reaches: [], rules: [] }
    return { networks, reaches, rules: [...this.#ports.rulesOf(id, name), ...rules] }
  }

  #newLink(id: string, isControlling: boolean): DeviceLink {
    const link = new DeviceLink({
      ...{ id, isControlling, peer: this.#nextPeer++, meetings: this.#options.meetings },
      begunMs: () => this.#begunMs,
      say: data => this.#options.say(id, data),
      order: order => this.#engine?.send(order),
    })
    this.#links.set(id, link)
    return link
  }

  #linkOf(peer: number): DeviceLink | undefined {
    return [...this.#links.values()].find(link => link.peer === peer)
  }

  #handleEvent(event: MeshEvent): void {
    const { log } = this.#options
    switch (event.kind) {
      case 'ready':
        this.#interface = event.interface
        this.#options.onInterface?.(event.interface, async () => (await this.#engine?.openNames()) ?? NO_NAMES)
        if (event.problem !== undefined) log.warn('no network interface for devices', { why: own(event.problem) })
        return
      case 'hosts':
        return this.#options.onHosts?.(event.hosts)
      case 'pong':
      case 'status':
        this.#waiting.get(event.request)?.(event)
        this.#waiting.delete(event.request)
        return
      case 'offer':
      case 'secret':
      case 'path': {
        const link = this.#linkOf(event.peer)
        if (link === undefined) return
        if (event.kind === 'path') return this.#handlePath(link, event.path)
        if (event.kind === 'secret') return this.#handleSecret(link, event.isAgreed)
        return link.handleOffer(event.offer)
      }
    }
  }

  #handlePath(link: DeviceLink, path: LinkPath | undefined): void {
    if (path?.kind !== link.path?.kind) this.#options.log.info('path to a device', { kind: own(path?.kind ?? 'none') })
    if ((path === undefined) !== (link.path === undefined)) this.#options.onReachable?.(link.id, path !== undefined)
    link.handlePath(path)
  }

  /** Where no path is there can be no secret: only the other case is a failure. */
  #handleSecret(link: DeviceLink, isAgreed: boolean): void {
    const { log } = this.#options
    if (!isAgreed && link.path !== undefined) log.error('no fresh secret with a device: its tunnel stands still')
    else if (isAgreed) log.debug('a fresh secret with a device')
  }

  #ask(order: (request: number) => Parameters<MeshEngine['send']>[0]): Promise<MeshEvent | undefined> {
    const engine = this.#engine
    if (engine === undefined) return Promise.resolve(undefined)
    const request = this.#nextRequest++
    return new Promise(resolve => {
      const limit = setTimeout(() => {
        this.#waiting.delete(request)
        resolve(undefined)
      }, PING_LIMIT_MS)
      this.#waiting.set(request, event => {
        clearTimeout(limit)
        resolve(event)
      })
      engine.send(order(request))
    })
  }
}
