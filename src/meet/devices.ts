// One's own devices: this one's keys, the others' cards, and a conversation with each. Pure; what must outlive the process is
// `state`, to be written down before what `take` gives is posted.
//
// Bounds: 64 devices. Who is removed is out at once: its card and every session are gone before this returns.

import type { Random } from '#crypto/random.ts'
import { isUsableX25519 } from '#crypto/x25519.ts'
import { type DeviceCard, isDeviceName } from '#wire/device-card.ts'
import type { DeviceMessage } from '#wire/device-message.ts'
import { Conversation, type ConversationEvent, type ConversationState, NEW_CONVERSATION } from './conversation.ts'
import { type DeviceAddresses, deviceAddresses } from './device-address.ts'
import type { Draft } from './letter.ts'
import { cardOf, type OwnDevice, rotateKeys } from './own-device.ts'

const MAX_DEVICES = 64
const TELL_EVERY_MS = 60_000

export interface SavedDevice {
  readonly card: DeviceCard
  /** What it is called here. */
  readonly name: string
  readonly pairedMs: number
  readonly conversation: ConversationState
}

export interface DevicesState {
  readonly own: OwnDevice
  readonly devices: readonly SavedDevice[]
}

/** A device as others see it: no secrets. */
export interface Device {
  readonly id: string
  readonly name: string
  readonly pairedMs: number
  readonly card: DeviceCard
  readonly addresses: DeviceAddresses
  /** Whether it has been heard in the session in use. */
  readonly isConfirmed: boolean
  /** The pre-shared key of the tunnel to it; `undefined` until both have spoken. */
  readonly tunnelSecret: Uint8Array | undefined
}

export type DeviceEvent =
  | ({ readonly device: string } & ConversationEvent)
  | { readonly device: string; readonly kind: 'paired' | 'removed' }

export type PairProblem = 'itself' | 'idTaken' | 'full' | 'unusableKeys'
export type RenameProblem = 'unknown' | 'badName' | 'nameTaken'

interface Known {
  card: DeviceCard
  name: string
  readonly pairedMs: number
  readonly conversation: Conversation
  toldMs: number
}

export class Devices {
  readonly #random: Random
  readonly #isElsewhere: (name: string) => boolean
  readonly #devices = new Map<string, Known>()
  readonly #drafts: Draft[] = []
  #events: DeviceEvent[] = []
  #own: OwnDevice

  /** @param isElsewhere whether something that is no paired device has a name */
  constructor(state: DevicesState, random: Random, isElsewhere: (name: string) => boolean = () => false) {
    this.#random = random
    this.#isElsewhere = isElsewhere
    this.#own = state.own
    for (const { card, name, pairedMs, conversation } of state.devices) this.#know(card, name, pairedMs, conversation)
  }

  get own(): OwnDevice {
    return this.#own
  }

  get state(): DevicesState {
    const devices = [...this.#devices.values()].map(({ card, name, pairedMs, conversation }) => {
      return { card, name, pairedMs, conversation: conversation.state }
    })
    return { own: this.#own, devices }
  }

  /** Our own addresses. */
  get addresses(): DeviceAddresses {
    return this.#allAddresses().get(this.#own.id) as DeviceAddresses
  }

  /** The paired devices, in the order of pairing. */
  list(): Device[] {
    const addresses = this.#allAddresses()
    return [...this.#devices].map(([id, { card, name, pairedMs, conversation }]) => {
      const { tunnelSecret, isConfirmed } = conversation
      return { id, name, pairedMs, card, isConfirmed, tunnelSecret, addresses: addresses.get(id) as DeviceAddresses }
    })
  }

  /** A device by its name, or by its id or the first 8 digits of it or more, where they are of one device alone. */
  find(nameOrId: string): Device | undefined {
    const devices = this.list()
    const named = devices.find(({ name }) => name === nameOrId)
    if (named !== undefined || !/^[0-9a-f]{8,32}$/.test(nameOrId)) return named
    const [found, another] = devices.filter(({ id }) => id.startsWith(nameOrId))
    return another === undefined ? found : undefined
  }

  /** Takes in a device that was paired with; one that is known already must have the identity that is known. */
  pair(card: DeviceCard, now: number): { readonly name: string } | { readonly problem: PairProblem } {
    const known = this.#devices.get(card.id)
    if (card.id === this.#own.id) return { problem: 'itself' }
    if (known !== undefined && Buffer.compare(known.card.identityKey, card.identityKey) !== 0)
      return { problem: 'idTaken' }
    if (known === undefined && this.#devices.size >= MAX_DEVICES) return { problem: 'full' }
    if (![card.identityKey, card.prekey, card.tunnelKey].every(isUsableX25519)) return { problem: 'unusableKeys' }
    const name = known?.name ?? this.#freeName(card.name)
    this.#know(card, name, now, NEW_CONVERSATION)
    this.#devices.get(card.id)?.conversation.send({ kind: 'hello' }, now)
    this.#events.push({ device: card.id, kind: 'paired' })
    return { name }
  }

  rename(nameOrId: string, to: string): RenameProblem | undefined {
    const device = this.#devices.get(this.find(nameOrId)?.id ?? '')
    if (device === undefined) return 'unknown'
    if (!isDeviceName(to)) return 'badName'
    if (device.name !== to && this.#isTaken(to)) return 'nameTaken'
    device.name = to
    return undefined
  }

  /** Calls this device something else; telling the others is for the caller. */
  renameOwn(to: string): RenameProblem | undefined {
    if (!isDeviceName(to)) return 'badName'
    if (this.#own.name !== to && this.#isTaken(to)) return 'nameTaken'
    this.#own = { ...this.#own, name: to }
    return undefined
  }

  /**
   * A device calls itself something now. It is called so here too, with a number behind it where another has that name, unless
   * its name here was chosen here, or `isFixed` says of the old or new one that something hangs on it.
   */
  follow(id: string, ownName: string, isFixed: (name: string) => boolean): void {
    const device = this.#devices.get(id)
    if (device === undefined || device.card.name === ownName) return
    const isOfCard = device.name === device.card.name || device.name.startsWith(`${device.card.name}-`)
    device.card = { ...device.card, name: ownName }
    if (!isOfCard || isFixed(device.name)) return
    const { name } = device
    device.name = ''
    const next = this.#freeName(ownName)
    device.name = isFixed(next) ? name : next
  }

  /** Removes a device; it is told, so far as it can be. Returns its id. */
  remove(nameOrId: string, now: number): string | undefined {
    const id = this.find(nameOrId)?.id
    const device = this.#devices.get(id ?? '')
    if (id === undefined || device === undefined) return undefined
    device.conversation.send({ kind: 'bye' }, now)
    this.#collect(id, device)
    this.#devices.delete(id)
    this.#events.push({ device: id, kind: 'removed' })
    return id
  }

  /** New keys for this device. Those who can be told now are; the others when they write to the old ones. */
  rotate(now: number): void {
    this.#own = rotateKeys(this.#own, this.#random)
    for (const device of this.#devices.values()) this.#tell(device, now)
  }

  /** Says something to a device, the whole state of its topic; false when there is none of that id. */
  send(id: string, data: Uint8Array, now: number, topic = ''): boolean {
    return this.#devices.get(id)?.conversation.send({ kind: 'data', body: data }, now, topic) ?? false
  }

  /** A message that was sealed for our keys of `generation`; the reason when it is not taken. */
  handle(message: DeviceMessage, generation: number, now: number): string | undefined {
    const device = this.#devices.get(message.sender)
    if (device === undefined) return 'unknownDevice'
    const reason = device.conversation.handle(message, now)
    for (const event of device.conversation.takeEvents()) {
      if (event.kind === 'bye') {
        this.#devices.delete(message.sender)
        this.#events.push({ device: message.sender, kind: 'removed' })
        return undefined
      }
      if (event.kind === 'card') device.card = event.card
      this.#events.push({ ...event, device: message.sender })
    }
    const isBehind = generation < this.#own.keys[0].generation
    if (reason === undefined && isBehind && now - device.toldMs >= TELL_EVERY_MS) this.#tell(device, now)
    return reason
  }

  /** The drafts that are to be posted now. */
  take(): Draft[] {
    for (const [id, device] of this.#devices) this.#collect(id, device)
    return this.#drafts.splice(0)
  }

  takeEvents(): DeviceEvent[] {
    return this.#events.splice(0)
  }

  #tell(device: Known, now: number): void {
    device.toldMs = now
    if (!device.conversation.sendCard(cardOf(this.#own), now)) device.conversation.send({ kind: 'hello' }, now)
  }

  #collect(id: string, { card, conversation }: Known): void {
    for (const { content, keeps, topic } of conversation.take()) {
      // What the program says is the whole state each time, so an older word that still waits is of no use.
      this.#drafts.push({ to: card.sealingKey, content, keeps, ...(!keeps && { topic: `${id} ${topic}` }) })
    }
    for (const event of conversation.takeEvents()) this.#events.push({ ...event, device: id })
  }

  #know(card: DeviceCard, name: string, pairedMs: number, state: ConversationState): void {
    const known: Known = {
      card,
      name,
      pairedMs,
      toldMs: Number.NEGATIVE_INFINITY,
      conversation: new Conversation(() => ({ own: this.#own, peer: known.card, random: this.#random }), state),
    }
    this.#devices.set(card.id, known)
  }

  #allAddresses(): Map<string, DeviceAddresses> {
    return deviceAddresses([this.#own.id, ...this.#devices.keys()])
  }

  #isTaken(name: string): boolean {
    return (
      name === this.#own.name ||
      this.#isElsewhere(name) ||
      [...this.#devices.values()].some(device => device.name === name)
    )
  }

  #freeName(wanted: string): string {
    for (let n = 1; ; n++) {
      const name = n === 1 ? wanted : `${wanted.slice(0, 29).replace(/-+$/, '')}-${n}`
      if (!this.#isTaken(name)) return name
    }
  }
}
