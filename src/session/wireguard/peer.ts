// What a WireGuard device knows of one peer.

import { mac1Key } from '../cookie.ts'
import type { SentInitiation } from './handshake.ts'
import { type Keypair, KeypairSlots } from './keypair.ts'
import { StagedPackets } from './staged-packets.ts'
import { PeerTimers } from './timers.ts'

/** How the outside knows a peer. */
export interface PeerHandle {
  /** 32 bytes. */
  readonly publicKey: Uint8Array
  /** The public key in base64, as `wg` prints it. */
  readonly name: string
}

/** Whether authenticated packets from elsewhere move a peer's endpoint. */
export type Roaming = 'free' | 'fixed'

const LONG_AGO = Number.NEGATIVE_INFINITY

export class Peer<Endpoint> {
  /** What is told to the outside: no keys in it. */
  readonly handle: PeerHandle
  readonly mac1Key: Uint8Array
  /** 32 bytes, zero for none; changed in place. Never printed. */
  readonly #psk = new Uint8Array(32)
  readonly timers = new PeerTimers()
  readonly staged = new StagedPackets()
  readonly slots: KeypairSlots<Peer<Endpoint>>
  endpoint: Endpoint | undefined
  roaming: Roaming = 'free'
  /** No handshake is begun with it; packets wait. */
  isHeld = false
  rxBytes = 0
  txBytes = 0
  latestHandshakeUnixMs: number | undefined

  /** The initiation that waits for its response. */
  pending: SentInitiation | undefined
  initiationSentMs = LONG_AGO
  /** Unix time of the last timestamp sent. */
  stampUnixMs = 0
  /** What a cookie reply may answer, and the index it names. */
  lastHandshake: { readonly message: Uint8Array; readonly localIndex: number } | undefined
  cookie: { readonly bytes: Uint8Array; readonly sinceMs: number } | undefined
  /** The newest timestamp seen in an initiation of the peer, 12 bytes. */
  readonly newestTimestamp = Buffer.alloc(12)
  initiationTakenMs = LONG_AGO
  /** These keys were already asked to be renewed because packets arrive at their old age. */
  hasRenewedOnReceive = false

  constructor(publicKey: Uint8Array, dropped: (keypair: Keypair<Peer<Endpoint>>) => void) {
    this.handle = { publicKey: Uint8Array.from(publicKey), name: peerName(publicKey) }
    this.mac1Key = mac1Key(publicKey)
    this.slots = new KeypairSlots(dropped)
  }

  get publicKey(): Uint8Array {
    return this.handle.publicKey
  }

  get psk(): Uint8Array {
    return this.#psk
  }
}

/** The base64 of a public key. */
export function peerName(publicKey: Uint8Array): string {
  return Buffer.from(publicKey).toString('base64')
}
