// What carries letters from who posts them to who listens in their bucket. A carrier knows neither who wrote a letter nor whom
// it is for; it may lose, repeat, delay and reorder. gossip-carrier.ts, mailbox-carrier.ts, rendezvous-carrier.ts,
// folder-carrier.ts and line-carrier.ts are the kinds there are.

import type { Bucket } from '#wire/letter.ts'

/** Gets a letter that nobody has checked, and who handed it over: a peer or a server, never its author. */
export type OnLetter = (letter: Uint8Array, source: string) => void

export interface Carrier {
  /** What it is called in the log and in the status. */
  readonly name: string
  /** Whether what is posted now has a chance to go anywhere. */
  readonly isReady: boolean
  /** Whether letters that say nothing are posted with it too; without a word they are. */
  readonly takesCover?: boolean
  /** Posts a letter with its work; rejects when that is known to have failed. */
  post(bucket: Bucket, letter: Uint8Array): Promise<void>
  /** Listens in a bucket until the returned function is called. */
  subscribe(bucket: Bucket, onLetter: OnLetter): () => void
  close(): Promise<void>
}

/** A bucket as a name: `4-9`. */
export function bucketName({ bits, number }: Bucket): string {
  return `${bits}-${number}`
}
