// One's own devices in a running daemon: pairing, what paired devices say to each other, their names. Letters are posted and
// read only while there is somebody to write to, unless the configuration wants cover at all times.

import { HopliteError } from '#api/errors.ts'
import type { Handlers } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { type Device, type DeviceEvent, Devices } from '#meet/devices.ts'
import { bucketOf, keyInBucket } from '#meet/letter.ts'
import { answerDns } from '#meet/names.ts'
import { cardOf } from '#meet/own-device.ts'
import { type DnsServer, serveDns } from '#platform/dns-server.ts'
import { helperProcess } from '#platform/linux/helper/helper-channel.ts'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/network/changes.ts'
import type { MeshSettings } from '#platform/paths/mesh-engine.ts'
import { type Address, formatAddress } from '#wire/address.ts'
import { decodeDeviceMessage } from '#wire/device-message.ts'
import { SHARING_KIND } from '#wire/device-sharing.ts'
import type { Config } from '../config.ts'
import { parseListen } from '../listen.ts'
import { type Log, own } from '../log.ts'
import { type BookActions, DeviceBook } from './device-book.ts'
import { DeviceFile } from './device-file.ts'
import { helpersKernel, type Kernel, ownKernel } from './device-kernel.ts'
import type { DeviceMeetings, MeetingNews } from './device-link.ts'
import { DeviceLinks } from './device-links.ts'
import { DeviceNames } from './device-names.ts'
import { DevicePost, type Purpose } from './device-post.ts'
import { DeviceSharing, type ViaDevice } from './device-sharing.ts'
import { hasCarriers } from './letter-carriers.ts'
import { PairingDesk } from './pairing-desk.ts'
import { Phones } from './phones.ts'

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

type DeviceActions = 'pair' | 'pair.join' | 'pair.status' | 'pair.end'
type LetterActions = 'letters.take' | 'letters.give'

export class Meeting {
  readonly #options: MeetingOptions
  readonly #file: DeviceFile
  readonly #devices: Devices
  readonly #phones: Phones
  readonly #desk: PairingDesk
  readonly #sharing: DeviceSharing
  readonly #links: DeviceLinks
  readonly #deviceNames: DeviceNames
  readonly #post: DevicePost
  readonly #book: DeviceBook
  /** What the configuration lets devices begin and use, as it was read last. */
  #allowed: Config['meet']['allow']
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
    this.#allowed = options.config.meet.allow
    const allow = () => this.#allowed
    this.#sharing = new DeviceSharing({
      ...options,
      allow,
      needed,
      kernel: kernelOf(options.stateDir),
      onChange: () => this.#change(() => undefined),
      isShut: shut !== undefined,
      ...(shut?.via !== undefined && { via: shut.via }),
    })
    this.#deviceNames = new DeviceNames({
      log: options.log,
      names: () => this.#names(),
      answersFor: address => this.#sharing.answersFor(address),
    })
    this.#links = new DeviceLinks({
      ...options,
      allow,
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
      hold: key => this.#post.office?.hold(key, { kind: 'pair.status' }),
      drop: key => this.#post.office?.drop(key),
      admit: (card, now) => this.#devices.pair(card, now),
    })
    this.#post = new DevicePost({
      config: options.config,
      onOpen: () => this.#change(() => undefined),
      onOpened: (content, purpose) => this.#change(now => this.#read(content, purpose, now)),
    })
    const { config } = options
    this.#book = new DeviceBook({
      ...{ config, devices: this.#devices, phones: this.#phones, sharing: this.#sharing, links: this.#links },
      names: this.#deviceNames,
      change: input => this.#change(input),
      updateLinks: () => this.#updateLinks(),
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
    this.#post.open().catch(error => log.warn('letters cannot travel', { why: own((error as Error).message) }))
    this.#updateLinks()
  }

  /** The configuration says something else now. */
  allow(rules: Config['meet']['allow']): void {
    this.#change(() => (this.#allowed = rules))
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
    const counters = Object.entries(this.#post.office?.counters ?? {})
    return Object.fromEntries(counters.map(([name, count]) => [`letters.${name}`, count]))
  }

  /** The handlers of the API that are about devices. */
  handlers(): Pick<Handlers, DeviceActions | LetterActions | BookActions> {
    return {
      pair: async ({ kind }) => {
        await this.#post.open()
        this.#links.prepare(this.#devices.own, this.#devices.addresses)
        return this.#change(now => this.#desk.host(kind, now))
      },
      'pair.join': async ({ code }) => {
        await this.#post.open()
        this.#links.prepare(this.#devices.own, this.#devices.addresses)
        return this.#change(now => this.#desk.join(code, now))
      },
      'pair.status': () => this.#desk.status(),
      'pair.end': () => ({ ended: this.#change(() => this.#desk.end()) }),
      'letters.take': async () => ({ lines: (await this.#post.lines()).take(MAX_LINES) }),
      'letters.give': async ({ line }) => ({ taken: (await this.#post.lines()).give(line) }),
      ...this.#book.handlers(),
    }
  }

  async close(): Promise<void> {
    if (this.#isClosed) return
    this.#isClosed = true
    clearTimeout(this.#timer)
    await this.#post.settled()
    await this.#sharing.close()
    await this.#links.close()
    await this.#post.close()
    await Promise.allSettled([this.#dns?.close(), this.#deviceNames.close()])
  }

  /** Whether a setting speaks of a device of that name: what it calls itself must not gain it that. */
  #isSetting(name: string): boolean {
    return [...this.#allowed, ...this.#options.config.meet.accept].some(({ device }) => device === name)
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
    const { office } = this.#post
    if (office === undefined) {
      this.#file.write(this.#devices.state)
    } else {
      for (const [id, data] of this.#sharing.take()) this.#devices.send(id, data, now, 'sharing')
      const drafts = [...this.#desk.take(), ...this.#devices.take()]
      this.#file.write(this.#devices.state)
      this.#post.holdOwn(this.#devices.own)
      for (const draft of drafts) if (!office.post(draft)) this.#options.log.warn('too many letters are waiting')
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
