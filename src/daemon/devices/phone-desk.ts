// What a user does with phones: adds one, with what it may reach through this device, and makes its file anew when that has changed.
// A WireGuard app knows what its file says and is told nothing later, so each file is compared with what holds now.

import { HopliteError } from '#api/errors.ts'
import type { Input, Output } from '#api/table.ts'
import type { Devices } from '#meet/devices.ts'
import { INTERNET } from '#meet/sharing.ts'
import { isDeviceName } from '#wire/device-card.ts'
import { readEndpoint } from '#wire/wg-quick-values.ts'
import { nameRefused, unknownDevice } from './device-errors.ts'
import type { DeviceSharing } from './device-sharing.ts'
import type { Phone, PhoneServer, Phones } from './phones.ts'

export interface PhoneDeskOptions {
  readonly phones: Phones
  readonly devices: Devices
  readonly sharing: DeviceSharing
  /** The UDP port of the tunnels; 0 where each start takes any. */
  readonly port: number
}

export class PhoneDesk {
  readonly #options: PhoneDeskOptions

  constructor(options: PhoneDeskOptions) {
    this.#options = options
  }

  /** Adds a phone, or makes the file of one anew. Throws DEVICE_NAME_INVALID, DEVICE_UNKNOWN and REQUEST_INVALID. */
  add({ name, endpoint, offer = [], again = false }: Input<'device.addPhone'>): Output<'device.addPhone'> {
    const { phones } = this.#options
    const known = phones.list().find(phone => phone.name === name || phone.id === name)
    if (again) {
      if (known === undefined) throw unknownDevice(name)
      const file = phones.renew(known, phone => this.#serverOf(phone, endpoint, offer, known))
      return this.#made(known.id, file)
    }
    this.#assertFree(name, known)
    const file = phones.add(name, phone => this.#serverOf(phone, endpoint, offer))
    if (file === undefined) throw new HopliteError('REQUEST_INVALID', 'add a phone: there are 16', 'remove one')
    return this.#made(phones.list().at(-1)?.id ?? '', file)
  }

  /** What a phone's file leads to besides this device, and what is wrong with it, in words. */
  view(phone: Phone): Pick<Output<'devices'>['phones'][number], 'reaches' | 'problem'> {
    const { file } = phone
    if (file === undefined) return { reaches: [] }
    const problem = this.#problemOf(phone)
    return { reaches: [...file.reaches], ...(problem !== undefined && { problem }) }
  }

  #problemOf(phone: Phone): string | undefined {
    const { devices, sharing } = this.#options
    const { generation = 0, reaches = [] } = phone.file ?? {}
    if (generation !== devices.own.keys[0].generation) return 'its file has earlier keys of this device'
    const now = sharing.reachesOf(phone, reaches.includes(INTERNET))
    // Everything goes there already.
    const lacks = reaches.includes(INTERNET) ? [] : now.filter(network => !reaches.includes(network))
    const ended = reaches.filter(network => !now.includes(network))
    const parts = [
      ...(lacks.length > 0 ? [`lacks ${lacks.join(', ')}`] : []),
      ...(ended.length > 0 ? [`leads to ${ended.join(', ')}, which it may not reach now`] : []),
    ]
    return parts.length === 0 ? undefined : `its file ${parts.join(' and ')}`
  }

  #made(id: string, file: string): Output<'device.addPhone'> {
    const reaches = this.#options.phones.list().find(phone => phone.id === id)?.file?.reaches ?? []
    return { id, file, reaches: [...reaches] }
  }

  #assertFree(name: string, known: Phone | undefined): void {
    const { devices } = this.#options
    if (!isDeviceName(name)) throw nameRefused('badName', name)
    if (known !== undefined || devices.find(name) !== undefined || name === devices.own.name)
      throw nameRefused('nameTaken', name)
  }

  #serverOf(
    phone: Pick<Phone, 'id' | 'name'>,
    endpoint: string | undefined,
    offer: readonly string[],
    before?: Phone,
  ): PhoneServer {
    const { devices, sharing, port } = this.#options
    const text = endpoint ?? before?.file?.endpoint ?? ''
    const target = readEndpoint(text) ?? readEndpoint(`${text}:${port}`)
    if (target === undefined) {
      const what = text === '' ? 'where it reaches this device is not said' : `"${text}" is no endpoint that lasts`
      const advice = 'name it with --endpoint HOST, and set udp_port in [meet]; or --endpoint HOST:PORT'
      throw new HopliteError('REQUEST_INVALID', `add a phone: ${what}`, advice)
    }
    sharing.offerToPhone(offer, phone)
    const wantsInternet = offer.includes(INTERNET) || before?.file?.reaches.includes(INTERNET) === true
    const reaches = sharing.reachesOf(phone, wantsInternet)
    const { ipv4, ipv6 } = devices.addresses
    const { generation, tunnel } = devices.own.keys[0]
    return {
      ...{ addresses: devices.addresses, publicKey: tunnel.publicKey, endpoint: target, generation, reaches },
      networks: sharing.networksOf(reaches),
      dnsServers: reaches.includes(INTERNET) ? [...(ipv4 === undefined ? [] : [ipv4]), ipv6] : [],
    }
  }
}
