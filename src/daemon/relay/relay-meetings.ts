// Where one's devices meet while no direct way is known: flows that a relay joins (route/meeting-flows.ts), over the client's own
// data plane, so that they take the detour of a network without UDP, and the firewall knows of them.

import { systemRandom } from '#crypto/random.ts'
import type { Command, Report } from '#forward/commands.ts'
import { MEETING_HEADER } from '#platform/meeting-port.ts'
import type { LayerIndices } from '#route/layer.ts'
import { MeetingFlows } from '#route/meeting-flows.ts'
import type { RouteHop } from '#route/way.ts'
import type { Address } from '#wire/address.ts'
import type { MeetingPlace } from '#wire/device-signal.ts'
import { ControlLoop } from '../control-loop.ts'
import type { DeviceMeetings, MeetingNews } from '../devices/device-link.ts'

const MAX_AVOIDED = 32

export interface RelayMeetingsOptions {
  readonly indices: LayerIndices
  /** Another than those of these ids, if there is one. */
  readonly pick: (avoid: ReadonlySet<string>) => RouteHop | undefined
  readonly find: (relay: string) => RouteHop | undefined
  readonly send: (commands: readonly Command[]) => void
  readonly onNews: (news: MeetingNews) => void
  /** A relay did not answer; asked again, it may. */
  readonly onSilent: () => void
  /** A relay does not answer. */
  readonly onFailure: (relay: RouteHop) => void
}

export class RelayMeetings implements DeviceMeetings {
  readonly #options: RelayMeetingsOptions
  readonly #flows: MeetingFlows
  readonly #loop: ControlLoop
  readonly #relays = new Map<number, RouteHop>()
  /** Relays that were of no use; the first is tried again before all are avoided. */
  readonly #avoided = new Set<string>()

  constructor(options: RelayMeetingsOptions) {
    this.#options = options
    this.#flows = new MeetingFlows({ random: systemRandom, indices: options.indices, header: MEETING_HEADER })
    this.#loop = new ControlLoop(this.#flows, () => this.#carryOut())
  }

  /** The relays that are spoken to. */
  get relays(): Address[] {
    return this.#flows.relays
  }

  pick(): string | undefined {
    return this.#options.pick(this.#avoided)?.id
  }

  open(peer: number, { relay: id, token }: MeetingPlace): boolean {
    const relay = this.#options.find(id)
    if (relay === undefined) return false
    this.#relays.set(peer, relay)
    let isBegun = false
    this.#loop.run(now => (isBegun = this.#flows.open(peer, relay, token, now)))
    return isBegun
  }

  close(peer: number): void {
    this.#loop.run(() => this.#flows.close(peer))
    this.#relays.delete(peer)
  }

  handleReport(report: Report): void {
    this.#loop.run(now => this.#flows.handleReport(report, now))
  }

  /** Leaves every meeting. */
  end(): void {
    for (const peer of [...this.#relays.keys()]) this.close(peer)
    this.#loop.close()
  }

  #avoid(relay: RouteHop, isRefused: boolean): void {
    this.#avoided.add(relay.id)
    for (const oldest of this.#avoided) {
      if (this.#avoided.size <= MAX_AVOIDED) break
      this.#avoided.delete(oldest)
    }
    if (!isRefused) this.#options.onFailure(relay)
  }

  #carryOut(): void {
    this.#options.send(this.#flows.take())
    for (const event of this.#flows.takeEvents()) {
      const relay = this.#relays.get(event.key)
      if (relay === undefined) continue
      const { key: peer } = event
      switch (event.kind) {
        case 'open':
          this.#options.onNews({ kind: 'open', peer, address: event.address, relay: relay.address })
          break
        case 'silent':
          this.#options.onSilent()
          break
        case 'lost':
          this.#avoid(relay, event.isRefused)
          this.#options.onNews({ kind: 'lost', peer })
          break
        case 'closed':
          this.#options.onNews({ kind: 'closed', peer })
          break
        case 'nested':
        case 'other':
      }
    }
  }
}
