import type { LetterNetwork } from '#discover/letters.ts'
import type { Config } from '../config.ts'

/** What all nodes of a network must have the same of, to carry each other's letters. */
export function letterNetwork({ meet }: Config): LetterNetwork {
  return { bits: meet.bucket_bits, workBits: meet.work_bits }
}
