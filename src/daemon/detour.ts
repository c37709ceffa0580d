// The client's way to its first hop where no UDP passes: what goes to a relay's address goes to a bridge on loopback instead
// (platform/websocket-bridge.ts), and what comes from there counts as come from the relay. Neither the machines nor the data plane
// know of it.
//
//   off ──(two hops failed in a row, and no datagram came)──► on
//    ▲                                                        │
//    └──(another network, or two hops failed in the same way)─┘
//
// One hop alone may be down, and where relays have no doors the detour leads nowhere: whatever carries nothing is left again.
//
// Bound: 8 bridges, the oldest is closed first.

import type { Command, Report, Via } from '#forward/commands.ts'
import { WebSocketBridge } from '#platform/websocket-bridge.ts'
import { type Address, formatAddress } from '#wire/address.ts'

const MAX_BRIDGES = 8
/** As many failures with nothing heard are no matter of single relays. */
const SILENT_FAILURES = 2

export interface DetourOptions {
  readonly when: 'auto' | 'always' | 'never'
  /** The port of relays' doors. */
  readonly port: number
}

export class Detour implements Disposable {
  readonly #options: DetourOptions
  readonly #bridges = new Map<string, { readonly relay: Address; bridge: WebSocketBridge | undefined }>()
  #isOn: boolean
  /** Datagrams that had come when a hop failed last. */
  #heard = 0
  #silentFailures = 0

  constructor(options: DetourOptions) {
    this.#options = options
    this.#isOn = options.when === 'always'
  }

  get isOn(): boolean {
    return this.#isOn
  }

  /** A hop did not answer; `datagramsIn` counts all that ever came. Whether the detour was turned on or off. */
  handleFailure(datagramsIn: number): boolean {
    this.#silentFailures = datagramsIn > this.#heard ? 0 : this.#silentFailures + 1
    this.#heard = datagramsIn
    if (this.#silentFailures < SILENT_FAILURES || this.#options.when !== 'auto') return false
    this.#silentFailures = 0
    this.#isOn = !this.#isOn
    return true
  }

  /** Another network may let UDP through. */
  handleNetworkChange(): void {
    this.#silentFailures = 0
    if (this.#options.when === 'auto') this.#isOn = false
  }

  /** Commands as the data plane is to carry them out. */
  outward(commands: readonly Command[]): readonly Command[] {
    if (!this.#isOn) return commands
    return commands.flatMap((command): readonly Command[] => {
      switch (command.kind) {
        case 'sendHandshake': {
          if (command.via.kind !== 'socket' || this.#isBuilt(command.via.address)) break
          // The first is lost while the bridge is built; handshakes are repeated.
          return []
        }
        case 'installSession':
        case 'setVia':
        case 'sendProbe':
          break
        default:
          return [command]
      }
      return command.via === undefined ? [command] : [{ ...command, via: this.#around(command.via) } as Command]
    })
  }

  /** A report as the machines are to hear it. */
  inward(report: Report): Report {
    if (report.kind !== 'handshake' || report.from.kind !== 'socket') return report
    const { host, port } = report.from.address
    for (const { relay, bridge } of this.#bridges.values()) {
      if (bridge?.address.port === port && host === bridge.address.host) {
        return { ...report, from: { kind: 'socket', address: relay } }
      }
    }
    return report
  }

  [Symbol.dispose](): void {
    for (const { bridge } of this.#bridges.values()) bridge?.[Symbol.dispose]()
    this.#bridges.clear()
    this.#isOn = false
  }

  /** Whether there is a bridge to that relay; begins one if not. */
  #isBuilt(relay: Address): boolean {
    const name = formatAddress(relay)
    const known = this.#bridges.get(name)
    if (known === undefined) void this.#build(name, relay)
    return known?.bridge !== undefined
  }

  #around(via: Via): Via {
    if (via.kind !== 'socket') return via
    const bridge = this.#bridges.get(formatAddress(via.address))?.bridge
    return bridge === undefined ? via : { kind: 'socket', address: bridge.address }
  }

  async #build(name: string, relay: Address): Promise<void> {
    const entry: { readonly relay: Address; bridge: WebSocketBridge | undefined } = { relay, bridge: undefined }
    this.#bridges.set(name, entry)
    if (this.#bridges.size > MAX_BRIDGES) {
      for (const [oldest, { bridge }] of this.#bridges) {
        bridge?.[Symbol.dispose]()
        this.#bridges.delete(oldest)
        break
      }
    }
    entry.bridge = await WebSocketBridge.open({ host: relay.host, port: this.#options.port })
    if (this.#bridges.get(name) !== entry) entry.bridge[Symbol.dispose]()
  }
}
