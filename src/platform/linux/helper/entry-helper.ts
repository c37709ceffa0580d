// A helper beside the helper: that of the tunnel to one's own VPN, which a person starts from the page of a daemon that has no
// tunnel of its own. The process that carries it is a child of the daemon, has no rights either, and asks for what it needs over a
// way of its own; what it may ask for is the daemon's to say once, of the list that a WireGuard file has of the network.
//
//   daemon ──entry──► helper ──two descriptors──► daemon ──at its birth──► the tunnel's process
//                       ▲                                                        │
//                       └───────────── open, relays, mtu, restore … ────────────┘

import { Socket } from 'node:net'
import path from 'node:path'
import { descriptorPair } from '../descriptors.ts'
import { fileCalls } from '../libc.ts'
import { Changes, ENTRY_JOURNAL, prepareJournal } from '../network/changes.ts'
import { type Carried, Helper, outOfTurn } from './helper.ts'
import type { HelperOrder, HelperRequest } from './helper-order.ts'
import { serveRequests } from './helper-serve.ts'

/** Its interface: no file of the daemon's names one. */
const NAME = 'hoplite-vpn'
/** Whoever is told to end may put the network back meanwhile. */
const END_MS = 5_000

type EntryRequest = Extract<HelperRequest, { readonly verb: 'entry' | 'entryLeft' | 'entryRestore' }>

interface Current {
  readonly socket: Socket
  /** Resolves when its process is gone, and what is to be done without it is done. */
  readonly ended: Promise<void>
}

export class EntryHelper {
  readonly #order: HelperOrder
  readonly #journal: string
  #current: Current | undefined

  constructor(order: HelperOrder) {
    this.#order = order
    this.#journal = path.join(order.journal, ENTRY_JOURNAL)
  }

  handles(request: HelperRequest): request is EntryRequest {
    return request.verb === 'entry' || request.verb === 'entryLeft' || request.verb === 'entryRestore'
  }

  /** Carries out a request. Throws REQUEST_INVALID where root did not allow such a tunnel, or what keeps it from being done. */
  async handle(request: EntryRequest): Promise<Carried> {
    if (this.#order.mayEnter !== true) throw outOfTurn()
    switch (request.verb) {
      case 'entry':
        return { answer: {}, fds: await this.#open(request) }
      case 'entryLeft':
        return { answer: { isLeft: Changes.peek(this.#journal).length > 0 }, fds: [] }
      case 'entryRestore':
        await this.#end()
        if (Changes.peek(this.#journal).length > 0) await Changes.open(this.#journal).undoAll()
        return { answer: {}, fds: [] }
    }
  }

  /** The daemon is gone; its child goes with it. */
  async handleDaemonGone(): Promise<void> {
    const current = this.#current
    if (current === undefined) return
    const late = setTimeout(() => current.socket.destroy(), END_MS)
    await current.ended
    clearTimeout(late)
  }

  async #open(wish: Extract<EntryRequest, { readonly verb: 'entry' }>): Promise<readonly number[]> {
    await this.#end()
    prepareJournal(this.#journal)
    const { uid } = this.#order
    const { addresses, dnsServers, dnsSearch, routes, killSwitch } = wish
    const given = { addresses, dnsServers, dnsSearch, routes, killSwitch }
    const tunnel = { kind: 'client', name: NAME, ...given, lan: [], split: {} } as const
    const helper = new Helper({ tunnel, journal: this.#journal, uid, hooks: [] })
    const [files, theirFiles] = descriptorPair()
    const [lines, theirLines] = descriptorPair('text')
    const socket = new Socket({ fd: lines, readable: true, writable: true }).on('error', () => undefined)
    const serving = serveRequests(socket, {
      carryOut: request => helper.handle(request),
      files,
      onFlood: () => socket.destroy(),
      isBusy: false,
    })
    const ended = serving.then(async () => {
      socket.destroy()
      fileCalls().close(files)
      await helper.handleDaemonGone()
    })
    // Whoever waits for it hears of a failure; nobody may.
    ended.catch(() => undefined)
    this.#current = { socket, ended }
    return [theirLines, theirFiles]
  }

  /** Ends the way of one that is there still. */
  async #end(): Promise<void> {
    const current = this.#current
    this.#current = undefined
    current?.socket.destroy()
    await current?.ended.catch(() => undefined)
  }
}
