// Letters as lines of text that a person carries: by a clipboard, a chat, a slip of paper.
//
//   "hoplite-letter1-" and base64url of the 4,096 bytes
//
// Cover letters stay at home: whoever carries letters by hand knows that there are some. Bounds: 32 lines wait to be carried away,
// the oldest go first.

import { type Bucket, decodeLetterHead, LETTER_BYTES } from '#wire/letter.ts'
import { bucketName, type Carrier, type OnLetter } from './carrier.ts'

const LINE_PREFIX = 'hoplite-letter1-'
const MAX_WAITING = 32

export class LineCarrier implements Carrier {
  readonly name = 'lines'
  readonly isReady = true
  readonly takesCover = false
  readonly #listening = new Map<string, Set<OnLetter>>()
  readonly #waiting: string[] = []

  async post(_bucket: Bucket, letter: Uint8Array): Promise<void> {
    this.#waiting.push(letterToLine(letter))
    if (this.#waiting.length > MAX_WAITING) this.#waiting.shift()
  }

  subscribe(bucket: Bucket, onLetter: OnLetter): () => void {
    const name = bucketName(bucket)
    const listeners = this.#listening.get(name) ?? new Set()
    this.#listening.set(name, listeners.add(onLetter))
    return () => listeners.delete(onLetter)
  }

  /** The lines to be carried away now, at most `count`. */
  take(count: number): string[] {
    return this.#waiting.splice(0, count)
  }

  /** A line that somebody brought; false when it is cut off or something else. */
  give(line: string): boolean {
    const letter = lineToLetter(line)
    const head = letter && decodeLetterHead(letter)
    if (letter === undefined || head === undefined) return false
    for (const onLetter of this.#listening.get(bucketName(head.bucket)) ?? []) onLetter(letter, this.name)
    return true
  }

  async close(): Promise<void> {
    this.#listening.clear()
  }
}

/** A letter as one line of text. */
export function letterToLine(letter: Uint8Array): string {
  return LINE_PREFIX + Buffer.from(letter).toString('base64url')
}

/** The letter of a line, spaces and breaks in it forgiven; `undefined` when it is cut off or something else. */
export function lineToLetter(line: string): Uint8Array | undefined {
  if (line.length > 4 * LETTER_BYTES) return undefined
  const text = line.replace(/\s+/g, '')
  if (!text.startsWith(LINE_PREFIX)) return undefined
  const letter = Uint8Array.from(Buffer.from(text.slice(LINE_PREFIX.length), 'base64url'))
  return decodeLetterHead(letter) === undefined ? undefined : letter
}
