// The client's way to its first hop where no UDP passes: what goes to a relay's address goes to a bridge on loopback instead
// (platform/paths/websocket-bridge.ts), and what comes from there counts as come from the relay. Neither the machines nor the data plane
// know of it.
//
// Nobody waits to find out. An initiation goes by UDP; where no answer has come after a quarter of a second the same goes around as
// well, and the way that answers is the session's. A relay takes an initiation once, so two ways never make two sessions.
//
//   unknown ──(an answer by UDP)──► udp: nothing goes around
//      │  ▲──(another network, or two hops failed in a row and nothing was heard)──┘ │
//      └──(an answer from around)──► around: UDP's start is shorter ─────────────────┘
//
// Bound: 8 bridges, the oldest is closed first.

import type { Command, Report, Via } from '#forward/commands.ts'
import { WebSocketBridge } from '#platform/paths/websocket-bridge.ts'
import { type Address, formatAddress } from '#wire/address.ts'

const MAX_BRIDGES = 8
/** UDP's head start: a round trip of most relays; less where UDP did not answer, so that a single loss is not held against it. */
const HEAD_START_MS = { unknown: 250, around: 60 } as const
/** As many failures with nothing heard are no matter of single relays. */
const SILENT_FAILURES = 2

export interface DetourOptions {
  readonly when: 'auto' | 'always' | 'never'
  /** The port of relays' doors. */
  readonly port: number
  /** Sends what goes around, when it is ready to. */
  readonly send: (commands: readonly Command[]) => void
  /** What is known of the network has changed. */
  readonly onChange?: () => void
}

type Handshake = Extract<Command, { kind: 'sendHandshake' }>

interface Relay {
  readonly address: Address
  bridge: WebSocketBridge | undefined
  isBuilding: boolean
  /** Its sessions go around. */
  isAround: boolean
  /** What goes around when the bridge is built; the newest alone. */
  waiting: Handshake | undefined
  race: NodeJS.Timeout | undefined
}

export class Detour implements Disposable {
  readonly #options: DetourOptions
  readonly #relays = new Map<string, Relay>()
  #network: 'unknown' | 'udp' | 'around' = 'unknown'
  /** Datagrams that had come when a hop failed last. */
  #heard = 0
  #silentFailures = 0
  #isClosed = false

  constructor(options: DetourOptions) {
    this.#options = options
  }

  /** Whether relays' doors may be gone to. */
  get isOpen(): boolean {
    const { when } = this.#options
    return when === 'always' || (when === 'auto' && this.#network !== 'udp')
  }

  /** Whether it is what carries: nothing else has answered on this network. */
  get isOn(): boolean {
    return this.#options.when === 'always' || this.#network === 'around'
  }

  /** A hop did not answer; `datagramsIn` counts all that ever came. */
  handleFailure(datagramsIn: number): void {
    this.#silentFailures = datagramsIn > this.#heard ? 0 : this.#silentFailures + 1
    this.#heard = datagramsIn
    if (this.#silentFailures < SILENT_FAILURES) return
    this.#silentFailures = 0
    this.#forget()
  }

  /** Another network may let UDP through. */
  handleNetworkChange(): void {
    this.#silentFailures = 0
    this.#forget()
  }

  /** Commands as the data plane is to carry them out. */
  outward(commands: readonly Command[]): readonly Command[] {
    if (this.#options.when === 'never') return commands
    return commands.flatMap((command): readonly Command[] => {
      switch (command.kind) {
        case 'sendHandshake':
          return command.via.kind === 'socket' ? this.#handshake(command, command.via.address) : [command]
        case 'installSession':
        case 'setVia':
        case 'sendProbe':
          return command.via === undefined ? [command] : [{ ...command, via: this.#around(command.via) } as Command]
        default:
          return [command]
      }
    })
  }

  /** A report as the machines are to hear it. */
  inward(report: Report): Report {
    if (report.kind !== 'handshake' || report.from.kind !== 'socket') return report
    const { host, port } = report.from.address
    for (const relay of this.#relays.values()) {
      const { address, bridge } = relay
      if (bridge?.address.port === port && host === bridge.address.host) {
        relay.isAround = true
        if (this.#network === 'unknown') this.#learn('around')
        return { ...report, from: { kind: 'socket', address } }
      }
      if (port !== address.port || host !== address.host) continue
      clearTimeout(relay.race)
      relay.isAround = false
      this.#learn('udp')
    }
    return report
  }

  [Symbol.dispose](): void {
    this.#isClosed = true
    for (const relay of this.#relays.values()) this.#close(relay)
    this.#relays.clear()
  }

  #handshake(command: Handshake, address: Address): readonly Command[] {
    const isAlways = this.#options.when === 'always'
    const known = this.#relays.get(formatAddress(address))
    // A session that goes around is renewed around.
    if (isAlways || known?.isAround === true) return this.#goAround(this.#relay(address), command)
    const relay = this.#relay(address)
    clearTimeout(relay.race)
    if (this.#network !== 'udp') {
      const headStartMs = HEAD_START_MS[this.#network]
      relay.race = setTimeout(() => this.#options.send(this.#goAround(relay, command)), headStartMs)
      relay.race.unref()
    }
    return [command]
  }

  /** The command to the relay's bridge; none while that is built, it follows then. */
  #goAround(relay: Relay, command: Handshake): readonly Command[] {
    if (relay.bridge !== undefined)
      return [{ ...command, via: { kind: 'socket', address: { ...relay.bridge.address } } }]
    relay.waiting = command
    if (!relay.isBuilding) void this.#build(relay)
    return []
  }

  #around(via: Via): Via {
    if (via.kind !== 'socket') return via
    const relay = this.#relays.get(formatAddress(via.address))
    const goes = relay?.isAround === true || this.#options.when === 'always'
    return relay?.bridge === undefined || !goes ? via : { kind: 'socket', address: relay.bridge.address }
  }

  #relay(address: Address): Relay {
    const name = formatAddress(address)
    const known = this.#relays.get(name)
    if (known !== undefined) return known
    const fresh = { bridge: undefined, isBuilding: false, isAround: false, waiting: undefined, race: undefined }
    const relay: Relay = { address, ...fresh }
    this.#relays.set(name, relay)
    for (const [oldest, each] of this.#relays) {
      if (this.#relays.size <= MAX_BRIDGES) break
      this.#close(each)
      this.#relays.delete(oldest)
    }
    return relay
  }

  async #build(relay: Relay): Promise<void> {
    relay.isBuilding = true
    const bridge = await WebSocketBridge.open({ host: relay.address.host, port: this.#options.port })
    relay.isBuilding = false
    if (this.#isClosed || this.#relays.get(formatAddress(relay.address)) !== relay) return bridge[Symbol.dispose]()
    relay.bridge = bridge
    const { waiting } = relay
    relay.waiting = undefined
    if (waiting !== undefined) this.#options.send(this.#goAround(relay, waiting))
  }

  #learn(network: 'udp' | 'around' | 'unknown'): void {
    if (this.#network === network || this.#options.when !== 'auto') return
    this.#network = network
    this.#options.onChange?.()
  }

  /** What was learned of the network holds no more; sessions go on where they are. */
  #forget(): void {
    for (const relay of this.#relays.values()) {
      clearTimeout(relay.race)
      relay.isAround = false
    }
    this.#learn('unknown')
  }

  #close(relay: Relay): void {
    clearTimeout(relay.race)
    relay.bridge?.[Symbol.dispose]()
  }
}
