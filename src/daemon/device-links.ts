// The tunnels to one's devices: who is in them, how offers of paths travel, what is known of each.
//
// Offers go by letter. One may be lost, so the newest is said again while there is no path: after 20 s, then ever more rarely.
// A program that began anew has forgotten everything: its first offer is answered with ours, whole.

import { systemRandom } from '#crypto/random.ts'
import { DEVICE_NETWORK, DEVICE_NETWORK_4, type DeviceAddresses } from '#meet/device-address.ts'
import type { Device } from '#meet/devices.ts'
import { ZONE } from '#meet/names.ts'
import type { OwnDevice } from '#meet/own-device.ts'
import type { PortRule } from '#mesh/firewall.ts'
import { LINK_MARK } from '#platform/linux/client-options.ts'
import {
  type LinkPath,
  type LinkPeer,
  type MeshEngine,
  type MeshEvent,
  type MeshNames,
  type MeshSettings,
  startMesh,
} from '#platform/mesh-engine.ts'
import { readStateFile } from '#platform/state-file.ts'
import { type Address, parseAddress } from '#wire/address.ts'
import { MEETING_TOKEN_BYTES } from '#wire/control.ts'
import { decodeDeviceSignal, encodeDeviceSignal, type MeetingPlace } from '#wire/device-signal.ts'
import type { Config } from './config.ts'
import type { DeviceAccess } from './device-sharing.ts'
import { type Log, own } from './log.ts'
import type { Phone } from './phones.ts'

const FIRST_AGAIN_MS = 20_000
const MAX_AGAIN_MS = 600_000
const MAX_LEASES = 64
const MAX_PASSWORD_BYTES = 1_024
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
  /** The network interface that there is to be, where the configuration wants one. */
  readonly tun?: Exclude<MeshSettings['tun'], { readonly kind: 'none' }>
  /** The tunnels are gone, of a bug. */
  readonly onFailure?: (error: Error) => void
  /** The machine's network is shut but for what was let through; the links speak to these hosts. */
  readonly onHosts?: (hosts: readonly string[]) => void
  /** The rules of the configuration, as they are now. */
  readonly allow?: () => Config['meet']['allow']
  /** What starts the tunnels; tests have another. */
  readonly start?: typeof startMesh
}

/** Meetings at relays: one at a time for each device, by the number of its link. */
export interface DeviceMeetings {
  /** The id of a relay to meet at; `undefined` while none is known. */
  pick(): string | undefined
  /** False when the relay is not known, or there are too many. */
  open(peer: number, place: MeetingPlace): boolean
  close(peer: number): void
}

/** What became of a meeting. */
export type MeetingNews =
  | { readonly kind: 'open'; readonly peer: number; readonly address: Address; readonly relay: Address }
  | { readonly kind: 'closed' | 'lost'; readonly peer: number }

/** What is known of the way to a device. */
export interface LinkStatus {
  readonly path: LinkPath | undefined
  readonly isUp: boolean
  readonly rxBytes: number
  readonly txBytes: number
}

interface Link {
  readonly id: string
  readonly peer: number
  /** Whether it is us who choose where to meet. */
  readonly isControlling: boolean
  meeting: MeetingPlace | undefined
  path: LinkPath | undefined
  offer: Uint8Array | undefined
  /** When the other side's program began; 0 while nothing was heard. */
  theirsMs: number
  epoch: number
  againMs: number
  again: NodeJS.Timeout | undefined
}

export class DeviceLinks {
  readonly #options: DeviceLinksOptions
  /** When the tunnels began, as the others are told. */
  #begunMs = 0
  #hasStun = false
  #isRestarting = false
  readonly #links = new Map<string, Link>()
  readonly #waiting = new Map<number, (event: MeshEvent) => void>()
  /** Ports that are open for a while: of a device's id or `*`, until when. */
  readonly #leases = new Map<string, { readonly device: string; readonly port: number; readonly end: NodeJS.Timeout }>()
  #update: () => void = () => undefined
  #engine: MeshEngine | undefined
  #interface: string | undefined
  #port: number | undefined
  #told = ''
  #nextPeer = 1
  #nextRequest = 1

  constructor(options: DeviceLinksOptions) {
    this.#options = options
  }

  /** The UDP port of the tunnels; `undefined` while they are not up. */
  get port(): number | undefined {
    return this.#port
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
      clearTimeout(link.again)
      this.#endMeeting(link)
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
  }

  /** More servers and relays may be known: tunnels that began without any, and reach nobody, begin anew. */
  async handleServersKnown(): Promise<void> {
    const isStuck = ![...this.#links.values()].some(({ path }) => path !== undefined)
    if (this.#engine === undefined || this.#hasStun || !isStuck || this.#stunServers().length === 0) {
      for (const link of this.#links.values()) this.#meetAtLast(link)
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
    for (const link of this.#links.values()) {
      link.offer = undefined
      this.#endMeeting(link)
    }
    this.#update()
  }

  /** Opens a port to a device's id, or to all by `*`, for a while; 0 closes it. False when 64 are open. */
  allow(device: string, port: number, forMs: number): boolean {
    const key = `${device} ${port}`
    clearTimeout(this.#leases.get(key)?.end)
    this.#leases.delete(key)
    if (forMs === 0 || this.#leases.size >= MAX_LEASES) return false
    const end = setTimeout(() => {
      this.#leases.delete(key)
      this.#update()
    }, forMs)
    end.unref()
    this.#leases.set(key, { device, port, end })
    return true
  }

  /** What a device says by letter. */
  handle(id: string, data: Uint8Array): void {
    const link = this.#links.get(id)
    const signal = decodeDeviceSignal(data)
    if (link === undefined || signal === undefined) return
    const knowsUs = signal.heardMs === this.#begunMs
    if (signal.begunMs !== link.theirsMs) {
      // Said by an earlier run of its program; unless its clock went back, which what it heard of us shows.
      if (signal.begunMs < link.theirsMs && !knowsUs) return
      const isFirst = link.theirsMs === 0
      link.theirsMs = signal.begunMs
      link.epoch++
      // Its flow at the relay may still be there, and nobody in it.
      if (!knowsUs && link.isControlling) this.#endMeeting(link)
      // It may have heard what we said meanwhile, and has lost our session all the same.
      if (!knowsUs || !isFirst) this.#engine?.send({ kind: 'restart', peer: link.peer })
    }
    if (!link.isControlling && signal.meeting !== undefined) this.#follow(link, signal.meeting)
    const offer = Uint8Array.from(signal.offer)
    this.#engine?.send({ kind: 'offer', peer: link.peer, epoch: link.epoch, offer })
  }

  /** What became of a meeting at a relay. */
  handleMeeting(news: MeetingNews): void {
    const { peer } = news
    const link = [...this.#links.values()].find(each => each.peer === peer)
    const meeting = link?.meeting
    if (link === undefined || meeting === undefined) return
    if (news.kind === 'closed') this.#engine?.send({ kind: 'endMeeting', peer })
    if (news.kind === 'lost') link.meeting = undefined
    if (news.kind !== 'open') return
    const { address, relay } = news
    const { isControlling } = link
    this.#engine?.send({ kind: 'meeting', peer, meeting: { address, relay, isControlling, token: meeting.token } })
  }

  /** A session with the device was lost, and what was said in it with that: it is told anew. */
  handleReset(id: string): void {
    const link = this.#links.get(id)
    if (link?.offer !== undefined && link.path === undefined) this.#say(link)
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
    for (const link of this.#links.values()) {
      clearTimeout(link.again)
      this.#endMeeting(link)
    }
    for (const { end } of this.#leases.values()) clearTimeout(end)
    this.#links.clear()
    await this.#engine?.close()
  }

  #start(self: OwnDevice, { ipv6, ipv4 }: DeviceAddresses): MeshEngine {
    const { config, log, start = startMesh } = this.#options
    const { udp_port: port, turn, interface: hasTun } = config.meet
    const tun = this.#options.tun ?? { kind: 'make' }
    this.#begunMs = Date.now()
    const stunServers = this.#stunServers()
    this.#hasStun = stunServers.length > 0
    const settings = {
      ...{ privateKey: self.keys[0].tunnel.privateKey, ipv6, ipv4, network: DEVICE_NETWORK, port },
      ...{ network4: DEVICE_NETWORK_4, zone: ZONE },
      stunServers,
      turnServers: turn.flatMap(({ address, username, password_file: file }) => {
        const [password = ''] = Buffer.from(readStateFile(file, MAX_PASSWORD_BYTES) ?? [])
          .toString('utf8')
          .split('\n')
        if (password === '') log.warn('a TURN server is left out: its password file is not there, or empty')
        return password === '' ? [] : [{ address: parseAddress(address) as Address, username, password }]
      }),
      // A router would be asked through the tunnel.
      mapsPorts: config.meet.map_port && this.#options.onHosts === undefined,
      tun: hasTun && process.platform === 'linux' ? tun : ({ kind: 'none' } as const),
      mark: LINK_MARK,
    }
    return start(
      settings,
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
    return { networks, reaches, rules: [...this.#rules(id, name), ...rules] }
  }

  #rules(id: string, name: string): PortRule[] {
    const { config, allow = () => config.meet.allow } = this.#options
    const lasting = allow().flatMap(rule => {
      if ('network' in rule || (rule.device !== '*' && rule.device !== name)) return []
      return { protocol: rule.protocol, fromPort: rule.from_port, toPort: rule.to_port }
    })
    const leased = [...this.#leases.values()]
      .filter(({ device }) => device === '*' || device === id)
      .flatMap(({ port }) => (['tcp', 'udp'] as const).map(protocol => ({ protocol, fromPort: port, toPort: port })))
    return [...lasting, ...leased]
  }

  #newLink(id: string, isControlling: boolean): Link {
    const known = { isControlling, meeting: undefined, path: undefined, offer: undefined, again: undefined }
    const link: Link = { id, peer: this.#nextPeer++, theirsMs: 0, epoch: 0, againMs: FIRST_AGAIN_MS, ...known }
    this.#links.set(id, link)
    return link
  }

  #handleEvent(event: MeshEvent): void {
    const { log } = this.#options
    switch (event.kind) {
      case 'ready':
        this.#interface = event.interface
        this.#port = event.port
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
        const link = [...this.#links.values()].find(({ peer }) => peer === event.peer)
        if (link === undefined) return
        if (event.kind === 'path') return this.#handlePath(link, event.path)
        if (event.kind === 'secret') return this.#handleSecret(link, event.isAgreed)
        link.offer = event.offer
        link.againMs = FIRST_AGAIN_MS
        return this.#say(link)
      }
    }
  }

  #handlePath(link: Link, path: LinkPath | undefined): void {
    if (path?.kind !== link.path?.kind) this.#options.log.info('path to a device', { kind: own(path?.kind ?? 'none') })
    const wasLost = link.path !== undefined && path === undefined
    if ((path === undefined) !== (link.path === undefined)) this.#options.onReachable?.(link.id, path !== undefined)
    link.path = path
    if (path !== undefined) clearTimeout(link.again)
    else if (wasLost && link.offer !== undefined) {
      link.againMs = FIRST_AGAIN_MS
      // Had the relay carried on, there would be a path.
      if (link.isControlling) this.#endMeeting(link)
      this.#say(link)
    }
  }

  /** Where no path is there can be no secret: only the other case is a failure. */
  #handleSecret(link: Link, isAgreed: boolean): void {
    const { log } = this.#options
    if (!isAgreed && link.path !== undefined) log.error('no fresh secret with a device: its tunnel stands still')
    else if (isAgreed) log.debug('a fresh secret with a device')
  }

  /** Chooses where to meet, if it is ours to choose and nothing is chosen. */
  #meet(link: Link): void {
    const { meetings } = this.#options
    if (meetings === undefined || !link.isControlling || link.meeting !== undefined) return
    const relay = meetings.pick()
    if (relay === undefined) return
    const place = { relay, token: systemRandom(MEETING_TOKEN_BYTES) }
    link.meeting = place
    if (!meetings.open(link.peer, place)) link.meeting = undefined
  }

  /** Relays may be known now. */
  #meetAtLast(link: Link): void {
    if (link.path !== undefined || link.offer === undefined || link.meeting !== undefined) return
    this.#meet(link)
    if (link.meeting !== undefined) this.#say(link)
  }

  /** Goes where the other side says. */
  #follow(link: Link, place: MeetingPlace): void {
    if (link.meeting !== undefined && Buffer.compare(link.meeting.token, place.token) === 0) return
    this.#endMeeting(link)
    link.meeting = place
    if (this.#options.meetings?.open(link.peer, place) !== true) link.meeting = undefined
  }

  #endMeeting(link: Link): void {
    if (link.meeting === undefined) return
    this.#options.meetings?.close(link.peer)
    link.meeting = undefined
    this.#engine?.send({ kind: 'endMeeting', peer: link.peer })
  }

  #say(link: Link): void {
    if (link.offer === undefined) return
    this.#meet(link)
    const meeting = link.isControlling ? link.meeting : undefined
    const signal = { begunMs: this.#begunMs, heardMs: link.theirsMs, meeting, offer: link.offer }
    this.#options.say(link.id, encodeDeviceSignal(signal))
    clearTimeout(link.again)
    link.again = setTimeout(() => {
      if (link.path !== undefined) return
      if (link.isControlling) this.#endMeeting(link)
      this.#say(link)
    }, link.againMs)
    link.again.unref()
    link.againMs = Math.min(2 * link.againMs, MAX_AGAIN_MS)
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
