// Phones with the official WireGuard app: they have no Hoplite, so this device makes their keys, keeps what it needs to know them
// by, and serves them at an address where it can be reached. phones.state in the state directory, 0600.
//
// Bound: 16 phones.

import path from 'node:path'
import { z } from 'zod'
import { HopliteError } from '#api/errors.ts'
import { Secret } from '#bytes/secret.ts'
import type { Random } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { type DeviceAddresses, deviceAddresses } from '#meet/device-address.ts'
import { readStateFile, writeStateFile } from '#platform/state/state-file.ts'
import { formatAddress } from '#wire/address.ts'
import type { Target } from '#wire/control.ts'
import { covers, type IpPrefix } from '#wire/ip-prefix.ts'
import { formatWgQuick } from '#wire/wg-quick.ts'
import { formatKey, parseKey } from '#wire/wireguard-key.ts'

const MAX_FILE_BYTES = 64 * 1024
const MAX_PHONES = 16
const KEEPALIVE_SECONDS = 25
const MTU = 1_280

const saved = z.array(
  z.strictObject({
    id: z.string(),
    name: z.string(),
    publicKey: z.string(),
    presharedKey: z.string(),
    /** Absent from what an earlier version wrote. */
    file: z.strictObject({ endpoint: z.string(), generation: z.number(), reaches: z.array(z.string()) }).optional(),
  }),
)

export interface Phone {
  readonly id: string
  readonly name: string
  readonly publicKey: Uint8Array
  readonly presharedKey: Uint8Array
  readonly addresses: DeviceAddresses
  /** What its file says of this device, as far as that can change here; `undefined` where it was not kept. */
  readonly file: PhoneFile | undefined
}

export interface PhoneFile {
  /** Where the phone sends to, with a port. */
  readonly endpoint: string
  /** Which of this device's keys it knows. */
  readonly generation: number
  /** Networks, `internet` and `devices`, besides this device. */
  readonly reaches: readonly string[]
}

/** What the phone is told of this device. */
export interface PhoneServer {
  readonly publicKey: Uint8Array
  readonly addresses: DeviceAddresses
  readonly endpoint: Target
  readonly generation: number
  readonly reaches: readonly string[]
  /** The networks that lead there. */
  readonly networks: readonly IpPrefix[]
  /** Where the phone asks for names; nowhere else then. */
  readonly dnsServers: readonly string[]
}

type Named = Pick<Phone, 'id' | 'name'>

export class Phones {
  readonly #file: string
  readonly #random: Random
  #phones: readonly Phone[]

  /** Reads them; throws STATE_UNREADABLE when the file is damaged. */
  constructor(stateDir: string, random: Random) {
    this.#file = path.join(stateDir, 'phones.state')
    this.#random = random
    this.#phones = this.#read()
  }

  list(): readonly Phone[] {
    return this.#phones
  }

  /** Makes a phone of that name; gives the WireGuard file for it, which is kept nowhere. `undefined` when there are 16. */
  add(name: string, serverOf: (phone: Named) => PhoneServer): string | undefined {
    if (this.#phones.length >= MAX_PHONES) return undefined
    return this.#make({ id: Buffer.from(this.#random(16)).toString('hex'), name }, serverOf)
  }

  /** Makes another file for a phone, in the place of the one before, which is of no use from then on. */
  renew({ id, name }: Named, serverOf: (phone: Named) => PhoneServer): string {
    return this.#make({ id, name }, serverOf)
  }

  /** Its id; `undefined` when there is none of that name or id. */
  remove(nameOrId: string): string | undefined {
    const phone = this.#phones.find(({ id, name }) => name === nameOrId || id === nameOrId)
    if (phone === undefined) return undefined
    this.#keep(this.#phones.filter(each => each !== phone))
    return phone.id
  }

  #make(named: Named, serverOf: (phone: Named) => PhoneServer): string {
    const server = serverOf(named)
    const { privateKey, publicKey } = x25519FromPrivate(this.#random(32))
    const { generation, reaches } = server
    const file = { endpoint: formatAddress(server.endpoint), generation, reaches }
    const phone = { ...named, publicKey, presharedKey: this.#random(32), addresses: addressesOf(named.id), file }
    const isThere = this.#phones.some(({ id }) => id === named.id)
    this.#keep(isThere ? this.#phones.map(each => (each.id === named.id ? phone : each)) : [...this.#phones, phone])
    return wireGuardFile(privateKey, phone, server)
  }

  #read(): Phone[] {
    const bytes = readStateFile(this.#file, MAX_FILE_BYTES)
    if (bytes === undefined) return []
    try {
      return saved
        .parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
        .map(({ id, name, publicKey, presharedKey, file }) => ({
          ...{ id, name, addresses: addressesOf(id), file },
          publicKey: keyOf(publicKey),
          presharedKey: keyOf(presharedKey),
        }))
    } catch (error) {
      const advice = 'restore it from a backup; or move it away, and add the phones again'
      throw new HopliteError('STATE_UNREADABLE', `read ${this.#file}: it is damaged`, advice, error)
    }
  }

  #keep(phones: readonly Phone[]): void {
    const entries = phones.map(({ id, name, publicKey, presharedKey, file }) => {
      return { id, name, publicKey: formatKey(publicKey), presharedKey: formatKey(presharedKey), file }
    })
    writeStateFile(this.#file, `${JSON.stringify(entries)}\n`)
    this.#phones = phones
  }
}

function wireGuardFile(privateKey: Uint8Array, phone: Phone, server: PhoneServer): string {
  return formatWgQuick({
    interface: {
      ...{ privateKey: new Secret(privateKey), addresses: prefixesOf(phone.addresses), mtu: MTU },
      ...{
        listenPort: 0,
        fwmark: 0,
        dnsServers: server.dnsServers,
        dnsSearch: [],
        table: { kind: 'auto' },
        saveConfig: false,
      },
    },
    peers: [
      {
        ...{ publicKey: server.publicKey, presharedKey: new Secret(phone.presharedKey), endpoint: server.endpoint },
        ...{ allowedIps: allowedIps(server), persistentKeepaliveSeconds: KEEPALIVE_SECONDS },
      },
    ],
    hooks: [],
  })
}

function allowedIps({ addresses, networks }: PhoneServer): IpPrefix[] {
  const own = prefixesOf(addresses)
  return [...own.filter(address => !networks.some(network => covers(network, address))), ...networks]
}

function prefixesOf({ ipv6, ipv4 }: DeviceAddresses): IpPrefix[] {
  return [{ address: ipv6, prefix: 128 }, ...(ipv4 === undefined ? [] : [{ address: ipv4, prefix: 32 }])]
}

function keyOf(text: string): Uint8Array {
  const key = parseKey(text)
  if (key === undefined) throw new TypeError('not a key')
  return key
}

function addressesOf(id: string): DeviceAddresses {
  return deviceAddresses([id]).get(id) as DeviceAddresses
}
