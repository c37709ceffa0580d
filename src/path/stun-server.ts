// What a relay does with STUN that arrives on its port: tells whoever asks which address the question came from. A pure machine.
//
// Sources can be forged and an answer is up to three times a bare question, so a network (IPv4 /24, IPv6 /56) gets 50 answers a
// second, 200 at once. Bounds: 4,096 networks, the one that asked longest ago goes first; 1,024 second answers that wait, more
// are not promised.

import { type Address, parseIp } from '#wire/address.ts'
import { answerBinding } from './answer-binding.ts'

const PER_SECOND = 50
const BURST = 200
const MAX_NETWORKS = 4_096
const MAX_WAITING = 1_024

export interface StunReply {
  readonly to: Address
  readonly bytes: Uint8Array
}

interface Network {
  left: number
  filledMs: number
}

export class StunServer {
  readonly #networks = new Map<string, Network>()
  /** Second answers, in no order. */
  #waiting: { readonly dueMs: number; readonly reply: StunReply }[] = []
  #out: StunReply[] = []

  handlePacket(bytes: Uint8Array, from: Address, now: number): void {
    if (!this.#mayAnswer(from.host, now)) return
    const answer = answerBinding(bytes, from, this.#waiting.length < MAX_WAITING)
    if (answer === undefined) return
    const reply = { to: from, bytes: answer.bytes }
    this.#out.push(reply)
    if (answer.againAfterMs !== undefined) this.#waiting.push({ dueMs: now + answer.againAfterMs, reply })
  }

  deadline(): number {
    let due = Number.POSITIVE_INFINITY
    for (const { dueMs } of this.#waiting) due = Math.min(due, dueMs)
    return due
  }

  handleDeadline(now: number): void {
    for (const { dueMs, reply } of this.#waiting) if (dueMs <= now) this.#out.push(reply)
    this.#waiting = this.#waiting.filter(({ dueMs }) => dueMs > now)
  }

  /** Takes what is to be sent from the port that was asked. */
  take(): StunReply[] {
    return this.#out.splice(0)
  }

  #mayAnswer(host: string, now: number): boolean {
    const name = networkOf(host)
    if (name === undefined) return false
    const network = this.#networks.get(name) ?? { left: BURST, filledMs: now }
    this.#networks.delete(name)
    this.#networks.set(name, network)
    if (this.#networks.size > MAX_NETWORKS) {
      for (const oldest of this.#networks.keys()) {
        this.#networks.delete(oldest)
        break
      }
    }
    network.left = Math.min(BURST, network.left + ((now - network.filledMs) * PER_SECOND) / 1_000)
    network.filledMs = now
    if (network.left < 1) return false
    network.left--
    return true
  }
}

function networkOf(host: string): string | undefined {
  const ip = parseIp(host)
  return ip && ip.subarray(0, ip.length === 4 ? 3 : 7).join('.')
}
