// Keeps one UDP port open on the router at home, by PCP or, if the router is older, NAT-PMP. A pure machine.
//
//   PCP ──(other version, or five times silence)──► NAT-PMP ──(silence, or no)──► off
//    └──────────── answer ──► mapped ◄── answers to both questions ──┘
//                               └──(half of the lease)──► asked again
//
// Only the router is believed, and of a PCP answer only one with our nonce. An answer names a port for an hour at most.

import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import { type Address, parseIp } from '#wire/address.ts'
import {
  decodePortControl,
  encodeNatPmpAddress,
  encodeNatPmpMap,
  encodePcpMap,
  PCP_NONCE_BYTES,
  PORT_CONTROL_PORT,
} from '#wire/port-control.ts'
import { isSameAddress } from './base.ts'

export interface PortControlOptions {
  /** The router's IPv4 address. */
  readonly router: string
  /** Our own, on the link to it. */
  readonly host: string
  readonly port: number
  readonly random: Random
  readonly send: (to: Address, bytes: Uint8Array) => void
}

const LEASE_SECONDS = 3_600
const MIN_LEASE_SECONDS = 60
const FIRST_WAIT_MS = 250
const MAX_TRIES = 5

export class PortControl {
  readonly #options: PortControlOptions
  readonly #router: Address
  readonly #nonce: Uint8Array
  #protocol: 'pcp' | 'natPmp' | 'off' = 'off'
  #externalHost: string | undefined
  #externalPort = 0
  #mapped: Address | undefined
  #tries = 0
  #dueMs = Number.POSITIVE_INFINITY

  constructor(options: PortControlOptions) {
    this.#options = options
    this.#router = { host: options.router, port: PORT_CONTROL_PORT }
    this.#nonce = copyBytes(options.random(PCP_NONCE_BYTES))
  }

  /** Where the router says that our port is heard. */
  get mapped(): Address | undefined {
    return this.#mapped
  }

  /** Asks, also after a change of network. */
  begin(now: number): void {
    this.#begin('pcp', now)
  }

  handlePacket(bytes: Uint8Array, from: Address, now: number): void {
    if (!isSameAddress(from, this.#router) || this.#protocol === 'off') return
    const answer = decodePortControl(bytes)
    switch (answer?.kind) {
      case undefined:
        return
      case 'refused':
        return this.#protocol === 'pcp' && answer.isOther ? this.#begin('natPmp', now) : this.#end()
      case 'pcpMapped': {
        const isOurs = this.#protocol === 'pcp' && Buffer.compare(answer.nonce, this.#nonce) === 0
        if (isOurs && answer.port === this.#options.port) this.#hold(answer.external, answer.lifetimeSeconds, now)
        return
      }
      case 'natPmpAddress':
        this.#externalHost = answer.host
        return
      case 'natPmpMapped':
        if (this.#protocol !== 'natPmp' || answer.port !== this.#options.port) return
        // The address was asked for first; without it the next try brings both.
        if (this.#externalHost === undefined) return
        return this.#hold({ host: this.#externalHost, port: answer.externalPort }, answer.lifetimeSeconds, now)
    }
  }

  deadline(): number {
    return this.#dueMs
  }

  handleDeadline(now: number): void {
    if (this.#dueMs > now) return
    if (this.#tries < MAX_TRIES) return this.#ask(now)
    if (this.#protocol === 'pcp') return this.#begin('natPmp', now)
    this.#end()
  }

  /** Gives the port back. */
  close(): void {
    if (this.#mapped !== undefined) this.#request(0)
    this.#end()
  }

  #begin(protocol: 'pcp' | 'natPmp', now: number): void {
    this.#protocol = protocol
    this.#externalHost = undefined
    this.#tries = 0
    this.#ask(now)
  }

  #ask(now: number): void {
    this.#dueMs = now + FIRST_WAIT_MS * 2 ** this.#tries
    this.#tries++
    this.#request(LEASE_SECONDS)
  }

  #request(lifetimeSeconds: number): void {
    const { host: client, port, send } = this.#options
    const externalPort = lifetimeSeconds === 0 ? 0 : this.#externalPort || port
    if (this.#protocol === 'pcp') {
      return send(this.#router, encodePcpMap({ nonce: this.#nonce, client, port, externalPort, lifetimeSeconds }))
    }
    if (lifetimeSeconds > 0) send(this.#router, encodeNatPmpAddress())
    send(this.#router, encodeNatPmpMap(port, externalPort, lifetimeSeconds))
  }

  #hold(external: Address, lifetimeSeconds: number, now: number): void {
    if (external.port === 0 || lifetimeSeconds === 0 || parseIp(external.host) === undefined) return this.#end()
    this.#mapped = external
    this.#externalPort = external.port
    this.#externalHost = undefined
    this.#tries = 0
    const leaseSeconds = Math.min(Math.max(lifetimeSeconds, MIN_LEASE_SECONDS), LEASE_SECONDS)
    this.#dueMs = now + leaseSeconds * 500
  }

  #end(): void {
    this.#protocol = 'off'
    this.#mapped = undefined
    this.#dueMs = Number.POSITIVE_INFINITY
  }
}
