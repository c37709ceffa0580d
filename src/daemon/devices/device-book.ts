// What a user does with the book of devices and phones: lists it, renames, removes, opens ports, offers networks, asks for an echo.

import { HopliteError } from '#api/errors.ts'
import type { Handlers, Output } from '#api/table.ts'
import type { Device, Devices } from '#meet/devices.ts'
import { formatAddress } from '#wire/address.ts'
import type { Config } from '../config.ts'
import { nameRefused, unknownDevice } from './device-errors.ts'
import type { DeviceLinks } from './device-links.ts'
import type { DeviceNames } from './device-names.ts'
import type { DeviceSharing } from './device-sharing.ts'
import { PhoneDesk } from './phone-desk.ts'
import type { Phone, Phones } from './phones.ts'

export interface DeviceBookOptions {
  readonly config: Config
  readonly devices: Devices
  readonly phones: Phones
  readonly sharing: DeviceSharing
  readonly links: DeviceLinks
  readonly names: DeviceNames
  /** Changes something; what comes of it is written down before it is told. */
  readonly change: <Result>(input: (now: number) => Result) => Result
  /** Rules of the links have changed. */
  readonly updateLinks: () => void
}

export type BookActions =
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

export class DeviceBook {
  readonly #options: DeviceBookOptions
  readonly #devices: Devices
  readonly #phones: Phones
  readonly #sharing: DeviceSharing
  readonly #links: DeviceLinks
  readonly #phoneDesk: PhoneDesk

  constructor(options: DeviceBookOptions) {
    const { config, devices, phones, sharing, links } = options
    this.#options = options
    this.#devices = devices
    this.#phones = phones
    this.#sharing = sharing
    this.#links = links
    this.#phoneDesk = new PhoneDesk({ phones, devices, sharing, port: config.meet.udp_port })
  }

  handlers(): Pick<Handlers, BookActions> {
    return {
      devices: () => this.#list(),
      'device.rename': ({ device, name }) => this.#rename(device, name),
      'device.remove': ({ device }) => {
        const id = this.#options.change(now => this.#devices.remove(device, now) ?? this.#removePhone(device))
        if (id === undefined) throw unknownDevice(device)
        return { id }
      },
      'device.rotate': () => {
        this.#options.change(now => this.#devices.rotate(now))
        return { generation: this.#devices.own.keys[0].generation }
      },
      'device.addPhone': input => this.#options.change(() => this.#phoneDesk.add(input)),
      'device.offer': ({ network, to }) => {
        const ids = to.map(name => (name === '*' ? name : this.#findAny(name).id))
        const offered = this.#options.change(() => this.#sharing.offer(network, ids))
        return { network: offered, to: this.#sharing.offers.find(offer => offer.network === offered)?.to ?? [] }
      },
      'device.withdraw': ({ network }) => ({ network: this.#options.change(() => this.#sharing.withdraw(network)) }),
      'device.accept': ({ device, network }) => {
        const found = this.#find(device)
        return { network: this.#options.change(() => this.#sharing.accept(found, network)) }
      },
      'device.decline': ({ device, network }) => {
        const found = this.#find(device)
        return { network: this.#options.change(() => this.#sharing.decline(found, network)) }
      },
      'device.allow': ({ device, port, forMs }) => {
        const id = device === '*' ? '*' : this.#findAny(device).id
        const allowed = this.#links.allow(id, port, forMs)
        this.#options.updateLinks()
        return { allowed }
      },
      'device.ping': async ({ device }) => {
        const found = this.#find(device)
        const { path, rttMs } = await this.#links.ping(found.id)
        return {
          ...{ id: found.id, name: found.name },
          ...(path !== undefined && { path: path.kind, to: formatAddress(path.to) }),
          ...(rttMs !== undefined && { rttMs }),
        }
      },
    }
  }

  #find(nameOrId: string): Device {
    const found = this.#devices.find(nameOrId)
    if (found === undefined) throw unknownDevice(nameOrId)
    return found
  }

  #findAny(nameOrId: string): Device | Phone {
    return this.#devices.find(nameOrId) ?? this.#findPhone(nameOrId) ?? this.#find(nameOrId)
  }

  #rename(device: string, name: string): Output<'device.rename'> {
    const { own: self } = this.#devices
    const isOwn = device === self.name || device === self.id
    if (isOwn && this.#options.config.meet.name !== '') {
      const advice = 'change name in [meet], and start the daemon anew'
      throw new HopliteError('DEVICE_NAME_INVALID', 'call this device something else: its name is a setting', advice)
    }
    const problem = this.#options.change(() =>
      isOwn ? this.#devices.renameOwn(name) : this.#devices.rename(device, name),
    )
    if (problem !== undefined) throw problem === 'unknown' ? unknownDevice(device) : nameRefused(problem, name)
    return { name, isOwn }
  }

  #removePhone(nameOrId: string): string | undefined {
    const id = this.#phones.remove(nameOrId)
    if (id !== undefined) this.#sharing.forgetPhone(id)
    return id
  }

  #findPhone(nameOrId: string): Phone | undefined {
    return this.#phones.list().find(({ id, name }) => name === nameOrId || id === nameOrId)
  }

  async #list(): Promise<Output<'devices'>> {
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
    const { isTold: knowsNames } = this.#options.names
    return { own, devices, phones, ...(link !== undefined && { interface: link, knowsNames }) }
  }
}

function present({ ipv6, ipv4 }: Device['addresses']): { readonly ipv6: string; readonly ipv4?: string } {
  return { ipv6, ...(ipv4 !== undefined && { ipv4 }) }
}
