// What the paths' thread and the mesh plane say to each other: all of it, and none of it for each packet of a session.
//
// Checks, handshakes and whatever else is no such packet go to the paths' thread, in the order in which they came, and handshakes come
// back behind the news of a path that a check before them made: an answer that was quicker than its path would be lost.

import type { MeshPeer, MeshStatus } from '#mesh/mesh.ts'
import type { Family } from '#path/base.ts'
import type { Path } from '#path/ground.ts'
import type { Address } from '#wire/address.ts'

export interface MeshPlaneSettings {
  readonly privateKey: Uint8Array
  /** Our own; the first is of the kind that peers are asked for echoes at. */
  readonly addresses: readonly string[]
  readonly turnServers: readonly Address[]
}

export type MeshPlaneOrder =
  | { readonly kind: 'peers'; readonly privateKey: Uint8Array; readonly peers: readonly MeshPeer[] }
  | { readonly kind: 'path'; readonly peer: number; readonly path: Path | undefined }
  | { readonly kind: 'restart'; readonly peer: number }
  /** A socket on every address of that family; `fd` is one that is open and bound, or negative. */
  | {
      readonly kind: 'open'
      readonly local: number
      readonly family: Family
      readonly port: number
      readonly fd: number
    }
  /** The way to `at` on loopback, where a relay's flow begins; who is at its other end counts as `from`. */
  | { readonly kind: 'openMeeting'; readonly local: number; readonly at: Address; readonly from: Address }
  | { readonly kind: 'close'; readonly local: number }
  | { readonly kind: 'send'; readonly local: number; readonly to: Address; readonly bytes: Uint8Array }
  /** What was reported and is no check, or came wrapped in what only the path machine opens. */
  | { readonly kind: 'packet'; readonly local: number; readonly from: Address; readonly bytes: Uint8Array }
  /** So many reports of datagrams and packets were dealt with. */
  | { readonly kind: 'heard'; readonly reports: number }
  | { readonly kind: 'ping'; readonly peer: number; readonly request: number }
  | { readonly kind: 'status'; readonly request: number }

export type MeshPlaneReport =
  /** What became of `open`; without a port there is none. */
  | { readonly kind: 'opened'; readonly local: number; readonly port: number | undefined }
  /** A datagram that is no packet of a session. */
  | { readonly kind: 'datagram'; readonly local: number; readonly from: Address; readonly bytes: Uint8Array }
  /** Packets go to a peer, said at most every 100 ms. */
  | { readonly kind: 'traffic'; readonly peer: number }
  /** A packet for a peer that only the path machine can send. */
  | { readonly kind: 'outward'; readonly peer: number; readonly bytes: Uint8Array }
  /** Something is sent to a host to which no path leads: a phone. */
  | { readonly kind: 'host'; readonly host: string }
  | { readonly kind: 'secret'; readonly peer: number; readonly isAgreed: boolean }
  | { readonly kind: 'pong'; readonly request: number; readonly rttMs: number | undefined }
  | {
      readonly kind: 'status'
      readonly request: number
      readonly peers: readonly MeshStatus[]
      /** Packets that were not let in. */
      readonly refused: number
    }
