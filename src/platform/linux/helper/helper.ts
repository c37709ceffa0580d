// What holds the machine's network for a daemon: does what a request says, within the order that root gave. In a process of
// its own as root (helper-process.ts) where the daemon has no rights; in the daemon itself where that was given the right.
//
//   shut ──open──► open ──restore──► shut         the daemon is gone while open: a client with its kill switch stays
//             ▲      │                            shut, journal and all; of the others everything is undone
//             └──────┘ open: in the place of the earlier one

import { existsSync } from 'node:fs'
import { HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { errorName } from '../libc.ts'
import { openChangeNews } from '../network/change-news.ts'
import { Changes } from '../network/changes.ts'
import {
  applyClientNetwork,
  cgroupMount,
  kernelHasIpv6,
  lookAtClientNetwork,
  mendClientNetwork,
  resetConnectionsFrom,
  updateControl,
  updateLinks,
  updateMtu,
  updateRelays,
} from '../network/client-network.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions } from '../network/client-options.ts'
import {
  applyDeviceRoutes,
  applyDeviceSharing,
  type DeviceRoute,
  type DeviceSharing,
  isShareableNetwork,
  undoDeviceChanges,
  undoDeviceOffers,
} from '../network/device-network.ts'
import { detectDnsWay } from '../network/dns.ts'
import { applyExitNetwork, detectExitMachine, type ExitMachine, mendExitNetwork } from '../network/exit-network.ts'
import { runHooks } from '../network/hooks.ts'
import { openLinkSocket } from '../network/link-socket.ts'
import { MESH_MTU, moveMeshRoutes, openMeshLink, openMeshNames } from '../network/mesh-link.ts'
import { NetworkGuard } from '../network/network-guard.ts'
import { type Endpoint, type Family, isWithin, parseInterface } from '../network/networks.ts'
import { listTable } from '../network/nft.ts'
import { listenForWg, type WgSocket } from '../network/wg-socket.ts'
import { openBusySocket } from '../plane/busy-socket.ts'
import { errno } from '../socket-calls.ts'
import { openTun, type Tun } from '../tun.ts'
import type { ClientOrder, HelperOrder, HelperRequest, MeshGrant } from './helper-order.ts'

export interface OpenedTunnel {
  readonly name: string
  readonly offload: TunOffload
  /** Whether it took the place of what an earlier run left. */
  readonly tookOver: boolean
  readonly killSwitch: boolean
  /** Of an exit: the families that lead to the internet. */
  readonly outward: readonly Family[]
}

export interface HelperAnswer {
  readonly opened?: OpenedTunnel
  /** What became of hooks that failed. */
  readonly failures?: readonly string[]
  /** The interface of one's devices. */
  readonly mesh?: { readonly name: string; readonly offload: TunOffload }
  /** Whether the system asks us for the devices' names. */
  readonly isTold?: boolean
  /** Of the tunnel of one's own VPN: whether it has left changes of the network. */
  readonly isLeft?: boolean
  /** Where devices may reach the internet behind this one: the families that lead there. */
  readonly outward?: readonly Family[]
}

/** What a request gives; the descriptors are the caller's. */
export interface Carried {
  readonly answer: HelperAnswer
  readonly fds: readonly number[]
}

/** How the machine is changed; another in tests. */
export const MACHINE = {
  openChanges: (directory: string) => Changes.open(directory),
  openTun,
  openBusySocket,
  listenForWg,
  applyClientNetwork,
  applyExitNetwork,
  mendClientNetwork,
  mendExitNetwork,
  lookAtClientNetwork,
  openChangeNews,
  updateRelays,
  updateControl,
  updateLinks,
  updateMtu,
  resetConnectionsFrom,
  runHooks,
  hasInterface: (name: string) => existsSync(`/sys/class/net/${name}`),
  openMeshLink,
  moveMeshRoutes,
  openMeshNames,
  openLinkSocket,
  applyDeviceSharing,
  applyDeviceRoutes,
  undoDeviceChanges,
  undoDeviceOffers,
  detectExitMachine,
}

interface Open {
  readonly changes: Changes
  readonly name: string
  readonly guard: NetworkGuard | undefined
  /** Of a client: as it was last told. */
  readonly network?: ClientNetworkOptions
  /** Where the links to devices may send. */
  readonly links?: readonly string[]
}

export class Helper {
  readonly #order: HelperOrder
  readonly #machine: typeof MACHINE
  #open: Open | undefined
  #mesh: { readonly name: string; readonly hosts: readonly string[]; readonly routes: readonly string[] } | undefined
  #sharing: DeviceSharing | undefined
  #networks: readonly DeviceRoute[] = []
  #wg: WgSocket | undefined
  #last: Promise<unknown> = Promise.resolve()
  readonly #onChanged: (error?: unknown) => void

  /** `onChanged` hears that somebody else has changed the tunnel's network, and why it could not be put back, if so. */
  constructor(order: HelperOrder, machine = MACHINE, onChanged: (error?: unknown) => void = () => {}) {
    this.#order = order
    this.#machine = machine
    this.#onChanged = onChanged
  }

  /** Carries out a request; they come one after another. Throws what keeps it from being done. */
  handle(request: HelperRequest): Promise<Carried> {
    return this.#inTurn(() => this.#carryOut(request))
  }

  async #carryOut(request: HelperRequest): Promise<Carried> {
    const machine = this.#machine
    switch (request.verb) {
      case 'alive':
        return DONE
      case 'open':
        return this.#openTunnel(request)
      case 'socket':
        return { answer: {}, fds: [this.#socket(request.family)] }
      case 'relays':
        await machine.updateRelays(this.#client().name, request.relays)
        return this.#told({ relays: request.relays })
      case 'control': {
        const { changes, network } = this.#client()
        await machine.updateControl(changes, network, request.control)
        return this.#told({ control: request.control })
      }
      case 'links': {
        const client = this.#client()
        await machine.updateLinks(client.name, request.hosts)
        this.#open = { ...client, links: request.hosts }
        return DONE
      }
      case 'mtu':
        await machine.updateMtu(this.#client().name, request.mtu)
        return this.#told({ mtu: request.mtu })
      case 'reset':
        await machine.resetConnectionsFrom(this.#client().network.addresses)
        return DONE
      case 'restore':
        await this.#restore()
        return DONE
      case 'hooks': {
        const { hooks, tunnel } = this.#order
        return { answer: { failures: await machine.runHooks(hooks, request.when, tunnel?.name ?? '') }, fds: [] }
      }
      case 'openMesh':
        return this.#openMesh(request)
      case 'meshRoutes': {
        const { link, order } = this.#meshNow()
        if (!request.ipv4.every(address => isWithin(address, order.ipv4))) throw outOfRange()
        await machine.moveMeshRoutes(link.name, link.routes, request.ipv4)
        this.#mesh = { ...link, routes: request.ipv4 }
        return DONE
      }
      case 'meshNames': {
        const { link, order } = this.#meshNow()
        const { fds, isTold } = await machine.openMeshNames(link.name, link.hosts, order.zone)
        return { answer: { isTold }, fds }
      }
      case 'meshGrants':
        return this.#grant(request.grants)
      case 'meshNetworks':
        return this.#lead(request.networks)
      case 'linkSocket': {
        if (this.#order.mesh === undefined) throw outOfTurn()
        const fd = machine.openLinkSocket(request.family, request.port)
        return { answer: {}, fds: fd < 0 ? [] : [fd] }
      }
      case 'entry':
      case 'entryLeft':
      case 'entryRestore':
        throw outOfTurn()
      case 'wg':
        this.#wg?.remove()
        this.#wg = await machine.listenForWg(this.#client().name)
        return { answer: {}, fds: [this.#wg.fd] }
    }
  }

  /** Nothing was asked yet: what an earlier run left of its devices' networks keeps nothing in. Throws what could not be undone. */
  async handleStart(): Promise<void> {
    const { mesh, journal } = this.#order
    if (mesh !== undefined) await this.#machine.undoDeviceChanges(this.#machine.openChanges(journal))
  }

  /** The daemon is gone, and its TUN with it. Throws what could not be undone. */
  async handleDaemonGone(): Promise<void> {
    const { tunnel, mesh, journal } = this.#order
    this.#wg?.remove()
    this.#open?.guard?.[Symbol.dispose]()
    // A daemon that ended in order has taken back what it accepted.
    if (mesh !== undefined) await this.#machine.undoDeviceOffers(this.#machine.openChanges(journal))
    if (tunnel?.kind === 'client' && tunnel.killSwitch) return
    await this.#restore()
  }

  async #openTunnel(request: Extract<HelperRequest, { verb: 'open' }>): Promise<Carried> {
    const { tunnel, journal } = this.#order
    if (tunnel === undefined) throw outOfTurn()
    const changes = this.#machine.openChanges(journal)
    const tookOver = changes.pending().length > 0
    const tun = this.#machine.openTun({ name: tunnel.name, offload: true, queues: request.queues })
    try {
      const { name, offload, fds } = tun
      if (tunnel.kind === 'exit') {
        const machine = await this.#openExit(changes, tun, request.mtu)
        const outward = familiesOf(machine)
        return { answer: { opened: { name, offload, tookOver, killSwitch: false, outward } }, fds }
      }
      const network = clientNetwork(this.#order, tunnel, name, request)
      await this.#machine.applyClientNetwork(changes, network)
      this.#open?.guard?.[Symbol.dispose]()
      this.#open = { changes, name, network, guard: this.#guard() }
      // A tunnel that leads through a device is the devices' interface too.
      if (this.#order.mesh?.interface === name)
        this.#mesh = { name, hosts: tunnel.addresses.map(own => parseInterface(own).address).toReversed(), routes: [] }
      await this.#open.guard?.settle()
      return { answer: { opened: { name, offload, tookOver, killSwitch: tunnel.killSwitch, outward: [] } }, fds }
    } catch (error) {
      tun.close()
      throw error
    }
  }

  async #openExit(changes: Changes, { name }: Tun, mtu: number) {
    const { tunnel } = this.#order
    if (tunnel?.kind !== 'exit') throw outOfTurn()
    try {
      const { addresses, denied, rules, allowed, resolver } = tunnel
      const asked = { tun: name, addresses, mtu, denied, rules, allowed, resolver, clientsMeet: false }
      const machine = await this.#machine.applyExitNetwork(changes, asked)
      const mend = () => this.#machine.mendExitNetwork(changes, asked, machine)
      this.#open = { changes, name, guard: this.#guard(() => listTable(`hoplite-${name}`), mend) }
      await this.#open.guard?.settle()
      return machine
    } catch (error) {
      await changes.undoAll().catch(() => undefined)
      throw error
    }
  }

  #socket(family: 4 | 6): number {
    const mark = this.#order.tunnel?.kind === 'client' ? CLIENT_MARK : 0
    const fd = this.#machine.openBusySocket(family, mark)
    if (fd >= 0) return fd
    throw new HopliteError('CHANGE_FAILED', `open a UDP socket: ${errorName(errno())}`, 'see the kernel log')
  }

  async #openMesh({ ipv6, ipv4 }: Extract<HelperRequest, { verb: 'openMesh' }>): Promise<Carried> {
    const { mesh: order } = this.#order
    // One at a time; it is gone with its last descriptor.
    if (order === undefined || (this.#mesh !== undefined && this.#machine.hasInterface(this.#mesh.name)))
      throw outOfTurn()
    if (!isWithin(ipv6, order.network) || (ipv4 !== null && !isWithin(ipv4, order.ipv4))) throw outOfRange()
    const { name, offload, fds } = await this.#machine.openMeshLink({
      ...{ ipv6, ipv4, network: order.network },
      ...(order.interface !== undefined && { name: order.interface }),
    })
    this.#mesh = { name, hosts: ipv4 === null ? [ipv6] : [ipv6, ipv4], routes: [] }
    // They went with the interface before.
    this.#networks = this.#networks.map(({ network }) => ({ network, isUp: false }))
    return { answer: { mesh: { name, offload } }, fds }
  }

  async #grant(grants: readonly MeshGrant[]): Promise<Carried> {
    const { link, order } = this.#meshNow()
    const isOurs = (address: string) => isWithin(address, order.network) || isWithin(address, order.ipv4)
    if (!grants.every(grant => grant.addresses.every(isOurs))) throw outOfRange()
    const isOffered = (network: string) => isShareableNetwork(network, order.network)
    if (!grants.every(grant => grant.networks.every(isOffered))) throw outOfRange()
    if (!grants.every(grant => grant.onward.every(to => isOurs(to) || isOffered(to)))) throw outOfRange()
    const before = this.#sharing
    const wanted = { tun: link.name, mtu: MESH_MTU, own: link.hosts, denied: order.denied, grants }
    const changes = this.#machine.openChanges(this.#order.journal)
    await this.#machine.applyDeviceSharing(
      changes,
      grants.length > 0 ? wanted : { ...(before ?? wanted), grants },
      before,
    )
    this.#sharing = grants.length === 0 ? undefined : wanted
    if (!grants.some(({ internet }) => internet)) return DONE
    return { answer: { outward: familiesOf(await this.#machine.detectExitMachine()) }, fds: [] }
  }

  async #lead(networks: readonly DeviceRoute[]): Promise<Carried> {
    const { link, order } = this.#meshNow()
    const isOurs = (network: string) =>
      isWithin(network, order.network) || isWithin(network, order.ipv4) || isShareableNetwork(network, order.network)
    if (!networks.every(({ network }) => isOurs(network))) throw outOfRange()
    const changes = this.#machine.openChanges(this.#order.journal)
    await this.#machine.applyDeviceRoutes(changes, link.name, this.#networks, networks, kernelHasIpv6())
    this.#networks = networks
    return DONE
  }

  #meshNow() {
    const { mesh: order } = this.#order
    const link = this.#mesh
    if (order === undefined || link === undefined) throw outOfTurn()
    return { order, link }
  }

  async #restore(): Promise<void> {
    this.#wg?.remove()
    this.#open?.guard?.[Symbol.dispose]()
    await this.#open?.changes.undoAll()
    this.#open = undefined
  }

  #client() {
    const open = this.#open
    if (open?.network === undefined) throw outOfTurn()
    return { ...open, network: open.network }
  }

  /** Remembers what was changed, for whoever has to do it again. */
  async #told(more: Partial<ClientNetworkOptions>): Promise<Carried> {
    const client = this.#client()
    this.#open = { ...client, network: { ...client.network, ...more } }
    if (more.relays === undefined) await client.guard?.settle()
    return DONE
  }

  #guard(look = () => this.#lookAtClient(), mend = () => this.#mendClient()): NetworkGuard | undefined {
    const news = this.#machine.openChangeNews()
    const inTurn = (act: () => Promise<void>) => this.#inTurn(act)
    return news && new NetworkGuard({ news, look, mend, inTurn, onChanged: error => this.#onChanged(error) })
  }

  #lookAtClient(): Promise<string> {
    return this.#machine.lookAtClientNetwork(this.#client().network)
  }

  async #mendClient(): Promise<void> {
    const { changes, network, name, links } = this.#client()
    await this.#machine.mendClientNetwork(changes, network)
    if (links !== undefined) await this.#machine.updateLinks(name, links)
  }

  /** One change of the network at a time, whoever asks for it. */
  #inTurn<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#last.then(act)
    this.#last = done.catch(() => undefined)
    return done
  }
}

function familiesOf({ outward4, outward6 }: Pick<ExitMachine, 'outward4' | 'outward6'>): Family[] {
  return [...(outward4 === undefined ? [] : [4 as const]), ...(outward6 === undefined ? [] : [6 as const])]
}

const DONE: Carried = { answer: {}, fds: [] }

export function outOfTurn(): HopliteError {
  return new HopliteError('REQUEST_INVALID', 'change the network: there is no such tunnel', 'open one first')
}

function outOfRange(): HopliteError {
  return new HopliteError('REQUEST_INVALID', "change the network: that is no device's address", 'report it')
}

function clientNetwork(
  { journal, uid }: HelperOrder,
  order: ClientOrder,
  tun: string,
  { mtu, control }: { readonly mtu: number; readonly control: readonly Endpoint[] },
): ClientNetworkOptions {
  const { addresses, dnsServers, dnsSearch, routes, lan, split, killSwitch, refused, devices } = order
  const mount = cgroupMount()
  return {
    tun,
    addresses,
    mtu,
    ...(dnsServers.length > 0 && {
      dns: { servers: dnsServers, search: dnsSearch, way: detectDnsWay(), stateDirectory: journal },
    }),
    mark: CLIENT_MARK,
    priority: CLIENT_PRIORITY,
    relays: [],
    control,
    uid,
    routes,
    lan,
    split,
    ...(refused !== undefined && { refused }),
    ...(devices !== undefined && { devices: { interface: tun, ...devices } }),
    killSwitch,
    hasIpv6: kernelHasIpv6(),
    ...(mount !== undefined && { cgroupMount: mount }),
  }
}
