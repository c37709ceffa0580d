// What holds the machine's network for a daemon: does what a request says, within the order that root gave. In a process of
// its own as root (helper-process.ts) where the daemon has no rights; in the daemon itself where that was given the right.
//
//   shut ──open──► open ──restore──► shut         the daemon is gone while open: a client with its kill switch stays
//             ▲      │                            shut, journal and all; of the others everything is undone
//             └──────┘ open: in the place of the earlier one

import { HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { openBusySocket } from './busy-socket.ts'
import { Changes } from './changes.ts'
import {
  applyClientNetwork,
  cgroupMount,
  kernelHasIpv6,
  resetConnectionsFrom,
  updateControl,
  updateLinks,
  updateMtu,
  updateRelays,
} from './client-network.ts'
import { CLIENT_MARK, CLIENT_PRIORITY, type ClientNetworkOptions } from './client-options.ts'
import { detectDnsWay } from './dns.ts'
import { applyExitNetwork } from './exit-network.ts'
import type { ClientOrder, HelperOrder, HelperRequest } from './helper-order.ts'
import { runHooks } from './hooks.ts'
import { errorName, fileCalls } from './libc.ts'
import type { Endpoint, Family } from './networks.ts'
import { errno } from './socket-calls.ts'
import { openTun, type Tun } from './tun.ts'
import { listenForWg, type WgSocket } from './wg-socket.ts'

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
  updateRelays,
  updateControl,
  updateLinks,
  updateMtu,
  resetConnectionsFrom,
  runHooks,
}

interface Open {
  readonly changes: Changes
  readonly name: string
  /** Of a client. */
  readonly network?: ClientNetworkOptions
}

export class Helper {
  readonly #order: HelperOrder
  readonly #machine: typeof MACHINE
  #open: Open | undefined
  #wg: WgSocket | undefined

  constructor(order: HelperOrder, machine = MACHINE) {
    this.#order = order
    this.#machine = machine
  }

  /** Carries out a request; they come one after another. Throws what keeps it from being done. */
  async handle(request: HelperRequest): Promise<Carried> {
    const machine = this.#machine
    switch (request.verb) {
      case 'open':
        return this.#openTunnel(request)
      case 'socket':
        return { answer: {}, fds: [this.#socket(request.family)] }
      case 'relays':
        await machine.updateRelays(this.#client().name, request.relays)
        return DONE
      case 'control': {
        const { changes, network } = this.#client()
        await machine.updateControl(changes, network, request.control)
        return DONE
      }
      case 'links':
        await machine.updateLinks(this.#client().name, request.hosts)
        return DONE
      case 'mtu':
        await machine.updateMtu(this.#client().name, request.mtu)
        return DONE
      case 'reset':
        await machine.resetConnectionsFrom(this.#client().network.addresses)
        return DONE
      case 'restore':
        await this.#restore()
        return DONE
      case 'hooks': {
        const { hooks, tunnel } = this.#order
        return { answer: { failures: await machine.runHooks(hooks, request.when, tunnel.name) }, fds: [] }
      }
      case 'wg':
        this.#wg?.remove()
        this.#wg = await machine.listenForWg(this.#client().name)
        return { answer: {}, fds: [this.#wg.fd] }
    }
  }

  /** The daemon is gone, and its TUN with it. Throws what could not be undone. */
  async handleDaemonGone(): Promise<void> {
    const { tunnel } = this.#order
    this.#wg?.remove()
    if (tunnel.kind === 'client' && tunnel.killSwitch) return
    await this.#restore()
  }

  async #openTunnel(request: Extract<HelperRequest, { verb: 'open' }>): Promise<Carried> {
    const { tunnel, journal } = this.#order
    const changes = this.#machine.openChanges(journal)
    const tookOver = changes.pending().length > 0
    const wantsOffload = tunnel.kind === 'exit' || tunnel.offload !== false
    const tun = this.#machine.openTun({ name: tunnel.name, offload: wantsOffload, queues: request.queues })
    try {
      const { name, offload, fds } = tun
      if (tunnel.kind === 'exit') {
        const machine = await this.#openExit(changes, tun, request.mtu)
        const outward = [...(machine.outward4 ? [4 as const] : []), ...(machine.outward6 ? [6 as const] : [])]
        return { answer: { opened: { name, offload, tookOver, killSwitch: false, outward } }, fds }
      }
      const network = clientNetwork(this.#order, tunnel, name, request)
      await this.#machine.applyClientNetwork(changes, network)
      this.#open = { changes, name, network }
      return { answer: { opened: { name, offload, tookOver, killSwitch: tunnel.killSwitch, outward: [] } }, fds }
    } catch (error) {
      tun.close()
      throw error
    }
  }

  async #openExit(changes: Changes, { name }: Tun, mtu: number) {
    const { tunnel } = this.#order
    if (tunnel.kind !== 'exit') throw outOfTurn()
    try {
      const { addresses, denied, rules, allowed, resolver } = tunnel
      const asked = { tun: name, addresses, mtu, denied, rules, allowed, resolver, clientsMeet: false }
      const machine = await this.#machine.applyExitNetwork(changes, asked)
      this.#open = { changes, name }
      return machine
    } catch (error) {
      await changes.undoAll().catch(() => undefined)
      throw error
    }
  }

  #socket(family: 4 | 6): number {
    const mark = this.#order.tunnel.kind === 'client' ? CLIENT_MARK : 0
    const fd = this.#machine.openBusySocket(family, mark)
    if (fd >= 0) return fd
    throw new HopliteError('CHANGE_FAILED', `open a UDP socket: ${errorName(errno())}`, 'see the kernel log')
  }

  async #restore(): Promise<void> {
    this.#wg?.remove()
    await this.#open?.changes.undoAll()
    this.#open = undefined
  }

  #client() {
    const { network, changes, name } = this.#open ?? {}
    if (network === undefined || changes === undefined || name === undefined) throw outOfTurn()
    return { network, changes, name }
  }
}

const DONE: Carried = { answer: {}, fds: [] }

/** Closes descriptors that were handed on, or that nobody takes. */
export function closeAll(fds: readonly number[]): void {
  for (const fd of fds) fileCalls().close(fd)
}

function outOfTurn(): HopliteError {
  return new HopliteError('REQUEST_INVALID', 'change the network: there is no tunnel of a client', 'open one first')
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
