// A data plane of several workers: whose a session is, and what one worker hands to another.
//
// The lowest bits of the index that a session receives under name its worker, so that whoever has a packet in hand knows the
// owner without a table: the kernel, which steers datagrams, and a worker that got one which is not its own. New keys of a session
// keep those bits.

import type { Address } from '#wire/address.ts'
import type { MeetingEnd } from './commands.ts'

/** A power of two. */
export const MAX_WORKERS = 8

/** The worker that owns what is received under `index`, of `workers`. */
export function workerOf(index: number, workers: number): number {
  return (index & (MAX_WORKERS - 1)) % workers
}

/** A random index, made one of `worker`. */
export function indexOf(random: number, worker: number): number {
  return ((random & ~(MAX_WORKERS - 1)) | worker) >>> 0
}

/** The other workers of this data plane, as one of them sees them. Bytes are copied; whoever has no room drops and counts. */
export interface OtherWorkers {
  /** What may be lent, all workers together: memory of a `SharedTokenBucket`. */
  readonly lent: Int32Array
  /** Takes a datagram from the node's socket; false when it is for this worker, or nobody's. */
  takeDatagram(buffer: Uint8Array, offset: number, length: number, from: Address): boolean
  /** Takes what one client of a meeting says to the other, whose session `to.worker` has. */
  takeMeeting(to: MeetingEnd, from: MeetingEnd, buffer: Uint8Array, offset: number, length: number): void
  /** Takes a packet of the TUN for an inside address (`packet-flows.ts`); false when no other worker has claimed it. */
  takePacket(key: number, buffer: Uint8Array, offset: number, length: number): boolean
  /** Packets for this inside address are for this worker. */
  claimAddress(key: number): void
  releaseAddress(key: number): void
}
