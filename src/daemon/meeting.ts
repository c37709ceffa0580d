// One's own devices in a running daemon: pairing, what paired devices say to each other, their names. Letters are posted and
// read only while there is somebody to write to, unless the configuration wants cover at all times.

import { HopliteError } from '#api/errors.ts'
import type { Handlers, Output } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import type { LineCarrier } from '#discover/line-carrier.ts'
import { type Device, type DeviceEvent, Devices } from '#meet/devices.ts'
import { bucketOf, keyInBucket } from '#meet/letter.ts'
import { answerDns } from '#meet/names.ts'
import { cardOf } from '#meet/own-device.ts'
import { type DnsServer, serveDns } from '#platform/dns-server.ts'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/changes.ts'
import { helperProcess } from '#platform/linux/helper-channel.ts'
import type { MeshSettings } from '#platform/mesh-engine.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { decodeDeviceMessage } from '#wire/device-message.ts'
import { SHARING_KIND } from '#wire/device-sharing.ts'
import type { Config } from './config.ts'
import { nameRefused, unknownDevice } from './device-errors.ts'
import { DeviceFile } from './device-file.ts'
import { helpersKernel, type Kernel, ownKernel } from './device-kernel.ts'
import { DeviceLinks, type DeviceMeetings, type MeetingNews } from './device-links.ts'
import { DeviceNames } from './device-names.ts'
import { DeviceSharing, type ViaDevice } from './device-sharing.ts'
import { hasCarriers, type OpenCarriers, openCarriers } from './letter-carriers.ts'
import { parseListen } from './listen.ts'
import { type Log, own } from './log.ts'
import { PairingDesk } from './pairing-desk.ts'
import { PhoneDesk } from './phone-desk.ts'
import { type Phone, Phones } from './phones.ts'
import { PostOffice } from './post-office.ts'

const MAX_SLEEP_MS = 60_000
/** What one answer of the API has room for. */
const MAX_LINES = 8

export interface MeetingOptions {
  readonly config: Config
  readonly stateDir: string
  readonly log: Log
  /** Servers to ask for our address when the configuration names none. */
  readonly stunServers?: () => readonly Address[]
  /** Where devices meet while no direct way is known. */
  readonly meetings?: DeviceMeetings
  /** Addresses that are reached outside of the devices' network. */
  readonly needed?: () => readonly string[]
  /** The way to a device came or went. */
  readonly onReachable?: () => void
  /** The tunnels are gone, of a bug. */
  readonly onFailure?: (error: Error) => void
  /** Of a machine whose network is shut but for what was let through. */
  readonly shut?: ShutMachine
}

export interface ShutMachine {
  /** The interface of the devices' network, by its name, or as it is already. */
  readonly tun: Exclude<MeshSettings['tun'], { readonly kind: 'none' }>
  /** Lets the links speak to these hosts and no others. */
  readonly allowHosts: (hosts: readonly string[]) => void
  /** The device that everything goes through. */
  readonly via?: ViaDevice
}

/** What a key is held for: our own of some generation, or a pairing. */
type Purpose = { readonly kind: 'device'; readonly generation: number } | { readonly kind: 'pair.status' }
type DeviceActions = 'pair' | 'pair.join' | 'pair.status' | 'pair.end'
type LetterActions = 'letters.take' | 'letters.give'
type BookActions =
  | 'devices'
  | 'device.rename'
  | 'device.remove'
  | 'device.rotate'
  | 'device.ping'
  | 'device.allow'
  | 'device.addPhone'
  | 'device.offer'
  | 'device.withdraw'
  | 'device.accept'
  | 'device.decline'

export class Meeting {
  readonly #options: MeetingOptions
  readonly #file: DeviceFile
  readonly #devices: Devices
  readonly #phones: Phones
  readonly #phoneDesk: PhoneDesk
  readonly #desk: PairingDesk
  readonly #sharing: DeviceSharing
  readonly #links: DeviceLinks
  readonly #deviceNames: DeviceNames
  #office: PostOffice<Purpose> | undefined
  #opening: Promise<PostOffice<Purpose>> | undefined
  #carriers: OpenCarriers | undefined
  #held = new Map<number, XWingKeyPair>()
  #dns: DnsServer | undefined
  #timer: NodeJS.Timeout | undefined
  #isClosed = false

  /** Reads the devices; throws STATE_UNREADABLE when their file is damaged. */
  constructor(options: MeetingOptions) {
    this.#options = options
    const { bucket_bits: bits, name } = options.config.meet
    this.#file = new DeviceFile(options.stateDir)
    this.#phones = new Phones(options.stateDir, systemRandom)
    const isPhone = (known: string) => this.#phones.list().some(phone => phone.name === known)
    this.#devices = new Devices(this.#file.read(name), systemRandom, isPhone)
    const bucket = bucketOf(this.#devices.own.keys[0].sealing.publicKey, bits)
    const { shut, needed = () => [] } = options
    this.#sharing = new DeviceSharing({
      ...options,
      needed,
      kernel: kernelOf(options.stateDir),
      onChange: () => this.#change(() => undefined),
      isShut: shut !== undefined,
      ...(shut?.via !== undefined && { via: shut.via }),
    })
    this.#phoneDesk = new PhoneDesk({
      ...{ phones: this.#phones, devices: this.#devices, sharing: this.#sharing },
      port: () => this.#links.port ?? options.config.meet.udp_port,
    })
    this.#deviceNames = new DeviceNames({
      log: options.log,
      names: () => this.#names(),
      answersFor: address => this.#sharing.answersFor(address),
    })
    this.#links = new DeviceLinks({
      ...options,
      say: (id, data) => this.#say(id, data),
      onInterface: (name, openNames) => {
        this.#sharing.handleInterface(name)
        if (name !== undefined) void this.#deviceNames.serve(openNames)
      },
      accessOf: id => this.#sharing.accessOf(id),
      onReachable: (id, isReachable) => {
        this.#sharing.handlePath(id, isReachable)
        this.#options.onReachable?.()
      },
      ...(shut !== undefined && { tun: shut.tun, onHosts: shut.allowHosts }),
    })
    this.#desk = new PairingDesk({
      random: systemRandom,
      card: () => cardOf(this.#devices.own),
      newKey: () => keyInBucket(bucket, systemRandom),
      suits: key => bucketOf(key.publicKey, bits).number === bucket.number,
      hold: key => this.#office?.hold(key, { kind: 'pair.status' }),
      drop: key => this.#office?.drop(key),
      admit: (card, now) => this.#devices.pair(card, now),
    })
  }

  /** Answers for names, and opens the post where there is somebody to write to. Throws ADDRESS_IN_USE. */
  async start(): Promise<void> {
    const { config, log } = this.#options
    if (config.meet.dns !== '') this.#dns = await this.#serveNames(config.meet.dns)
    this.#sharing.handleNetworkChange()
    if (this.#phones.list().length > 0) this.#updateLinks()
    const isAlone = this.#devices.list().length === 0
    if (!isAlone) this.#change(() => undefined)
    if (!hasCarriers(config) || (isAlone && !config.meet.always)) return
    this.#post().catch(error => log.warn('letters cannot travel', { why: own((error as Error).message) }))
    this.#updateLinks()
  }

  /** More STUN servers may be known. */
  handleServersKnown(): void {
    void this.#links.handleServersKnown()
  }

  /** The machine may be on another network. */
  handleNetworkChange(): void {
    this.#sharing.handleNetworkChange()
  }

  /** Of a machine that goes through a device: whether it does now, or why not. */
  get via(): { readonly isUp: boolean; readonly problem: string | undefined } {
    return { isUp: this.#sharing.isVia, problem: this.#sharing.viaProblem }
  }

  /** What became of a meeting at a relay. */
  handleMeeting(news: MeetingNews): void {
    this.#links.handleMeeting(news)
  }

  /** Where questions for names are answered. */
  get dnsAddress(): string | undefined {
    return this.#dns && formatAddress(this.#dns.address)
  }

  get counters(): Record<string, number> {
    const counters = Object.entries(this.#office?.counters ?? {})
    return Object.fromEntries(counters.map(([name, count]) => [`letters.${name}`, count]))
  }

  /** The handlers of the API that are about devices. */
  handlers(): Pick<Handlers, DeviceActions | LetterActions | BookActions> {
    return {
      pair: async ({ kind }) => {
        await this.#post()
        return this.#change(now => this.#desk.host(kind, now))
      },
      'pair.join': async ({ code }) => {
        await this.#post()
        return this.#change(now => this.#desk.join(code, now))
      },
      'pair.status': () => this.#desk.status(),
      'pair.end': () => ({ ended: this.#change(() => this.#desk.end()) }),
      'letters.take': async () => ({ lines: (await this.#lines()).take(MAX_LINES) }),
      'letters.give': async ({ line }) => ({ taken: (await this.#lines()).give(line) }),
      devices: () => this.#book(),
      'device.rename': ({ device, name }) => this.#rename(device, name),
      'device.remove': ({ device }) => {
        const id = this.#change(now => this.#devices.remove(device, now) ?? this.#removePhone(device))
        if (id === undefined) throw unknownDevice(device)
        return { id }
      },
      'device.rotate': () => {
        this.#change(now => this.#devices.rotate(now))
        return { generation: this.#devices.own.keys[0].generation }
      },
      'device.addPhone': input => this.#change(() => this.#phoneDesk.add(input)),
      'device.offer': ({ network, to }) => {
        const ids = to.map(name => (name === '*' ? name : this.#findAny(name).id))
        const offered = this.#change(() => this.#sharing.offer(network, ids))
        return { network: offered, to: this.#sharing.offers.find(offer => offer.network === offered)?.to ?? [] }
      },
      'device.withdraw': ({ network }) => ({ network: this.#change(() => this.#sharing.withdraw(network)) }),
      'device.accept': ({ device, network }) => {
        const found = this.#findDevice(device)
        return { network: this.#change(() => this.#sharing.accept(found, network)) }
      },
      'device.decline': ({ device, network }) => {
        const found = this.#findDevice(device)
        return { network: this.#change(() => this.#sharing.decline(found, network)) }
      },
      'device.allow': ({ device, port, forMs }) => {
        const id = device === '*' ? '*' : this.#findAny(device).id
        const allowed = this.#links.allow(id, port, forMs)
        this.#updateLinks()
        return { allowed }
      },
      'device.ping': async ({ device }) => {
        const found = this.#findDevice(device)
        const { path, rttMs } = await this.#links.ping(found.id)
        return {
          ...{ id: found.id, name: found.name },
          ...(path !== undefined && { path: path.kind, to: formatAddress(path.to) }),
          ...(rttMs !== undefined && { rttMs }),
        }
      },
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#opening?.catch(() => undefined)
    await this.#sharing.close()
    await this.#links.close()
    await this.#office?.close()
    await Promise.allSettled([this.#carriers?.close(), this.#dns?.close(), this.#deviceNames.close()])
  }

  /** The post office, opened when it is first wanted. Throws NO_CARRIER. */
  async #post(): Promise<PostOffice<Purpose>> {
    const { config } = this.#options
    if (!hasCarriers(config)) {
      const advice = 'set bootstrap in [network], or rendezvous or folder in [meet]: docs/configuration.md'
      throw new HopliteError('NO_CARRIER', 'reach other devices: there is no way for letters', advice)
    }
    this.#opening ??= this.#openOffice().catch(error => {
      this.#opening = undefined
      throw error
    })
    return this.#opening
  }

  #removePhone(nameOrId: string): string | undefined {
    const id = this.#phones.remove(nameOrId)
    if (id !== undefined) this.#sharing.forgetPhone(id)
    return id
  }

  #findDevice(nameOrId: string): Device {
    const found = this.#devices.find(nameOrId)
    if (found === undefined) throw unknownDevice(nameOrId)
    return found
  }

  #findAny(nameOrId: string): Device | Phone {
    return this.#devices.find(nameOrId) ?? this.#findPhone(nameOrId) ?? this.#findDevice(nameOrId)
  }

  #rename(device: string, name: string): Output<'device.rename'> {
    const { own: self } = this.#devices
    const isOwn = device === self.name || device === self.id
    if (isOwn && this.#options.config.meet.name !== '') {
      const advice = 'change name in [meet], and start the daemon anew'
      throw new HopliteError('DEVICE_NAME_INVALID', 'call this device something else: its name is a setting', advice)
    }
    const problem = this.#change(() => (isOwn ? this.#devices.renameOwn(name) : this.#devices.rename(device, name)))
    if (problem !== undefined) throw problem === 'unknown' ? unknownDevice(device) : nameRefused(problem, name)
    return { name, isOwn }
  }

  /** Whether a setting speaks of a device of that name: what it calls itself must not gain it that. */
  #isSetting(name: string): boolean {
    const { allow, accept } = this.#options.config.meet
    return [...allow, ...accept].some(({ device }) => device === name)
  }

  #findPhone(nameOrId: string): Phone | undefined {
    return this.#phones.list().find(({ id, name }) => name === nameOrId || id === nameOrId)
  }

  async #lines(): Promise<LineCarrier> {
    await this.#post()
    const lines = this.#carriers?.lines
    if (lines !== undefined) return lines
    const advice = 'set by_hand = true in [meet], and start the daemon anew'
    throw new HopliteError('NO_CARRIER', 'carry letters by hand: that is not wanted here', advice)
  }

  async #openOffice(): Promise<PostOffice<Purpose>> {
    const { meet } = this.#options.config
    this.#carriers = await openCarriers(this.#options.config)
    this.#office = new PostOffice<Purpose>({
      carriers: this.#carriers.carriers,
      bits: meet.bucket_bits,
      workBits: meet.work_bits,
      intervalMs: meet.interval_ms,
      random: systemRandom,
      nowMs: Date.now,
      onOpened: (content, purpose) => this.#change(now => this.#read(content, purpose, now)),
    })
    // What was to be said before waits in the machines.
    this.#change(() => undefined)
    return this.#office
  }

  #read(content: Uint8Array, purpose: Purpose, now: number): void {
    if (purpose.kind === 'pair.status') return this.#desk.handle(content, now)
    const message = decodeDeviceMessage(content)
    const reason = message && this.#devices.handle(message, purpose.generation, now)
    if (reason !== undefined) this.#options.log.debug('a message was not taken', { reason: own(reason) })
  }

  /** Changes something, writes down what came of it, and only then lets anybody know. */
  #change<Result>(input: (now: number) => Result): Result {
    const now = Date.now()
    const result = input(now)
    this.#desk.handleDeadline(now)
    const events = this.#devices.takeEvents()
    for (const event of events) this.#handleSharing(event, now)
    this.#sharing.update(
      { name: this.#devices.own.name, addresses: this.#devices.addresses },
      this.#devices.list(),
      this.#phones.list(),
      now,
    )
    if (this.#office === undefined) {
      this.#file.write(this.#devices.state)
    } else {
      for (const [id, data] of this.#sharing.take()) this.#devices.send(id, data, now, 'sharing')
      const drafts = [...this.#desk.take(), ...this.#devices.take()]
      this.#file.write(this.#devices.state)
      this.#holdOwnKeys(this.#office)
      for (const draft of drafts) if (!this.#office.post(draft)) this.#options.log.warn('too many letters are waiting')
    }
    this.#updateLinks()
    for (const event of [...events, ...this.#devices.takeEvents()]) this.#handleEvent(event)
    this.#arm(now)
    return result
  }

  #handleSharing(event: DeviceEvent, now: number): void {
    const { device: id } = event
    if (event.kind === 'reset') this.#sharing.handleReset(id, now)
    if (event.kind !== 'data' || event.data[0] !== SHARING_KIND) return
    this.#sharing.handle(id, event.data, now)
    const name = this.#sharing.nameOf(id)
    if (name !== undefined) this.#devices.follow(id, name, known => this.#isSetting(known))
  }

  #handleEvent(event: DeviceEvent): void {
    switch (event.kind) {
      case 'data':
        return event.data[0] === SHARING_KIND ? undefined : this.#links.handle(event.device, event.data)
      case 'reset':
        return this.#links.handleReset(event.device)
      case 'paired':
        return this.#options.log.info('a device was paired')
      case 'removed':
        return this.#options.log.info('a device was removed')
      case 'card':
      case 'bye':
    }
  }

  #say(id: string, data: Uint8Array): void {
    this.#change(now => this.#devices.send(id, data, now))
  }

  #updateLinks(): void {
    this.#links.update(this.#devices.own, this.#devices.addresses, this.#devices.list(), this.#phones.list())
  }

  #arm(now: number): void {
    clearTimeout(this.#timer)
    if (this.#isClosed) return
    const due = Math.min(this.#desk.deadline(), this.#sharing.deadline())
    const wait = Math.min(Math.max(due - now, 0), MAX_SLEEP_MS)
    this.#timer = setTimeout(() => this.#change(() => undefined), wait)
    this.#timer.unref()
  }

  #holdOwnKeys(office: PostOffice<Purpose>): void {
    const wanted = new Map(this.#devices.own.keys.map(({ generation, sealing }) => [generation, sealing]))
    for (const [generation, key] of this.#held) if (!wanted.has(generation)) office.drop(key)
    for (const [generation, key] of wanted)
      if (!this.#held.has(generation)) office.hold(key, { kind: 'device', generation })
    this.#held = wanted
  }

  async #book(): Promise<Output<'devices'>> {
    const links = await this.#links.status()
    const { own: self, addresses } = this.#devices
    const [{ generation }] = self.keys
    const devices = this.#devices.list().map(({ id, name, pairedMs, isConfirmed, card, addresses: theirs }) => {
      const { path, isUp = false, rxBytes = 0, txBytes = 0 } = links.get(id) ?? {}
      return {
        ...{ id, name, pairedMs, isConfirmed, generation: card.generation, isUp, rxBytes, txBytes },
        offered: this.#sharing.offered(id),
        ...(card.name !== name && { ownName: card.name }),
        ...(path !== undefined && { path: path.kind }),
        ...present(theirs),
      }
    })
    const phones = this.#phones.list().map(phone => {
      const { id, name, addresses: theirs } = phone
      return { id, name, isUp: links.get(id)?.isUp ?? false, ...present(theirs), ...this.#phoneDesk.view(phone) }
    })
    const { interface: link } = this.#links
    const { offers, problem } = this.#sharing
    const own = {
      ...{ id: self.id, name: self.name, generation, offers, ...present(addresses) },
      ...(problem !== undefined && { problem }),
    }
    return { own, devices, phones, ...(link !== undefined && { interface: link }) }
  }

  async #serveNames(listen: string): Promise<DnsServer> {
    const address = parseListen(listen)
    try {
      return await serveDns(address, query => answerDns(query, this.#names()))
    } catch (error) {
      const what = `answer for names at ${listen}: ${(error as NodeJS.ErrnoException).code}`
      throw new HopliteError('ADDRESS_IN_USE', what, 'choose another address: dns in [meet]', error)
    }
  }

  #names(): Map<string, Device['addresses']> {
    const others = this.#devices.list().map(({ name, addresses }) => [name, addresses] as const)
    const phones = this.#phones.list().map(({ name, addresses }) => [name, addresses] as const)
    return new Map([...others, ...phones, [this.#devices.own.name, this.#devices.addresses]])
  }
}

/** The machine's network, changed by the helper where there is one, else by this process. */
function kernelOf(stateDir: string): Kernel {
  const helper = helperProcess()
  if (helper !== undefined) return helpersKernel(helper)
  return ownKernel(() => {
    const journal = journalDirectory(stateDir)
    prepareJournal(journal)
    return Changes.open(journal)
  })
}

function present({ ipv6, ipv4 }: Device['addresses']): { readonly ipv6: string; readonly ipv4?: string } {
  return { ipv6, ...(ipv4 !== undefined && { ipv4 }) }
}
