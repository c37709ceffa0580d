// The transport keys of a WireGuard peer: at most five (WireGuard paper §6.3 has three).
//
//   responder made keys     next ◄── new
//   first packet under it   retired ◄── current ◄── next
//   initiator made keys     retired ◄── current ◄── new       an unconfirmed next is retired too
//
// Only the initiator knows at once that both ends have the keys, so the responder goes on sealing with the old ones
// until it has opened a packet under the new. Retired keys open what is still on its way. The paper keeps one of them; when
// both ends begin at the same moment each seals with the keys that it initiated, so that a renewal has two sets to replace
// and makes two: with fewer than three retired, packets on their way are lost.

import { ReplayWindow } from '../replay-window.ts'

export interface Keypair<Peer> {
  readonly peer: Peer
  readonly localIndex: number
  readonly remoteIndex: number
  /** 32 bytes; zero once the keypair is dropped. */
  readonly sendKey: Uint8Array
  readonly receiveKey: Uint8Array
  readonly isInitiator: boolean
  readonly createdMs: number
  readonly window: ReplayWindow
  sendCounter: number
}

export function makeKeypair<Peer>(fields: Omit<Keypair<Peer>, 'window' | 'sendCounter'>): Keypair<Peer> {
  return { ...fields, window: new ReplayWindow(), sendCounter: 0 }
}

/** The oldest goes first. */
const MAX_RETIRED = 3

export class KeypairSlots<Peer> {
  /** Newest first. */
  #retired: Keypair<Peer>[] = []
  #current: Keypair<Peer> | undefined
  #next: Keypair<Peer> | undefined
  readonly #dropped: (keypair: Keypair<Peer>) => void

  /** @param dropped is told of every keypair that is no longer used; its keys are wiped by then */
  constructor(dropped: (keypair: Keypair<Peer>) => void) {
    this.#dropped = dropped
  }

  /** The keys we seal with. */
  get current(): Keypair<Peer> | undefined {
    return this.#current
  }

  install(keypair: Keypair<Peer>): void {
    if (keypair.isInitiator) {
      this.#retire(this.#current)
      this.#retire(this.#next)
      this.#current = keypair
      this.#next = undefined
    } else {
      this.#retire(this.#next)
      this.#next = keypair
    }
  }

  /** A packet was opened with `keypair`; whether that shows, for the first time, that the initiator has it too. */
  confirm(keypair: Keypair<Peer>): boolean {
    if (keypair !== this.#next) return false
    this.#retire(this.#current)
    this.#current = keypair
    this.#next = undefined
    return true
  }

  wipe(): void {
    for (const keypair of [...this.#retired, this.#current, this.#next]) this.#drop(keypair)
    this.#retired = []
    this.#current = undefined
    this.#next = undefined
  }

  #retire(keypair: Keypair<Peer> | undefined): void {
    if (keypair === undefined) return
    this.#retired.unshift(keypair)
    if (this.#retired.length > MAX_RETIRED) this.#drop(this.#retired.pop())
  }

  #drop(keypair: Keypair<Peer> | undefined): void {
    if (keypair === undefined) return
    keypair.sendKey.fill(0)
    keypair.receiveKey.fill(0)
    this.#dropped(keypair)
  }
}
