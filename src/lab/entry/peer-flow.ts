// The least that a client needs to reach a WireGuard server through peers: one way, one flow at its end, one entry. A machine
// for tests of peers; what a client of Hoplite does beyond that is in route/.

import type { Random } from '#crypto/random.ts'
import type { Command, EntryClient, Report } from '#forward/commands.ts'
import { type Layer, LayerIndices } from '#route/layer.ts'
import { type RouteHop, Way } from '#route/way.ts'
import type { Address } from '#wire/address.ts'

/** The number of the one entry. */
export const ENTRY = 1
/** The flow number that a way uses at its last hop. */
const FLOW = 1

export interface PeerFlowOptions {
  /** The peers, the one that speaks to the server last. */
  readonly peers: readonly RouteHop[]
  readonly server: Address
  readonly client: EntryClient
  readonly random: Random
}

export class PeerFlow {
  readonly #out: Command[] = []
  readonly #indices = new LayerIndices()
  readonly #way: Way
  /** Whether the last peer has opened the flow; undefined until it has answered. */
  isOpen: boolean | undefined
  /** Whether a peer has said that a flow ended. */
  isEnded = false

  constructor({ peers, server, client, random }: PeerFlowOptions) {
    let session = 1
    this.#way = new Way({
      hops: peers,
      end: server,
      random,
      out: this.#out,
      indices: this.#indices,
      newSession: () => session++,
    })
    this.#way.onNotice = () => {
      this.isEnded = true
    }
    this.#way.onChange = now => {
      if (this.#way.state !== 'ready') return
      this.#way.openServerFlow(now, isOpen => this.#join(isOpen, client))
    }
  }

  begin(now: number): void {
    this.#way.begin(now)
  }

  handleReport(report: Report, now: number): void {
    if (report.kind === 'handshake') {
      this.#out.push({ kind: 'grantHandshakes', count: 1 })
      this.#indices.handleHandshake(report.bytes, now)
    }
    if (report.kind === 'control') this.#layer(report.session)?.handleControl(report.bytes, now)
  }

  handleDeadline(now: number): void {
    this.#way.handleDeadline(now)
  }

  deadline(): number {
    return this.#way.deadline()
  }

  take(): Command[] {
    return this.#out.splice(0)
  }

  #join(isOpen: boolean, client: EntryClient): void {
    this.isOpen = isOpen
    const session = this.#way.layers.at(-1)?.session
    if (!isOpen || session === undefined) return
    this.#out.push({ kind: 'installEntry', entry: ENTRY, client })
    this.#out.push({ kind: 'installLeg', entry: ENTRY, session, flow: FLOW })
    this.#out.push({ kind: 'useLeg', entry: ENTRY, session })
  }

  #layer(session: number): Layer | undefined {
    return this.#way.layers.find(layer => layer.session === session)
  }
}
