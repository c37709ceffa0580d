// The transport keys of a WireGuard peer: at most three generations (WireGuard paper §6.3).
//
//   responder made keys     next ◄── new        previous is dropped: its packets are two handshakes old
//   first packet under it   previous ◄── current ◄── next
//   initiator made keys     previous ◄── current ◄── new       an unconfirmed next becomes previous instead
//
// Only the initiator knows at once that both ends have the keys, so the responder goes on sealing with the old ones
// until it has opened a packet under the new.

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

export class KeypairSlots<Peer> {
  previous: Keypair<Peer> | undefined
  /** The keys we seal with. */
  current: Keypair<Peer> | undefined
  next: Keypair<Peer> | undefined
  readonly #dropped: (keypair: Keypair<Peer>) => void

  /** @param dropped is told of every keypair that is no longer used; its keys are wiped by then */
  constructor(dropped: (keypair: Keypair<Peer>) => void) {
    this.#dropped = dropped
  }

  install(keypair: Keypair<Peer>): void {
    this.#drop(this.previous)
    if (!keypair.isInitiator) {
      this.#drop(this.next)
      this.previous = undefined
      this.next = keypair
      return
    }
    if (this.next === undefined) this.previous = this.current
    else {
      this.#drop(this.current)
      this.previous = this.next
      this.next = undefined
    }
    this.current = keypair
  }

  /** A packet was opened with `keypair`; whether that shows, for the first time, that the initiator has it too. */
  confirm(keypair: Keypair<Peer>): boolean {
    if (keypair !== this.next) return false
    this.#drop(this.previous)
    this.previous = this.current
    this.current = keypair
    this.next = undefined
    return true
  }

  wipe(): void {
    for (const keypair of [this.previous, this.current, this.next]) this.#drop(keypair)
    this.previous = undefined
    this.current = undefined
    this.next = undefined
  }

  #drop(keypair: Keypair<Peer> | undefined): void {
    if (keypair === undefined) return
    keypair.sendKey.fill(0)
    keypair.receiveKey.fill(0)
    this.#dropped(keypair)
  }
}
