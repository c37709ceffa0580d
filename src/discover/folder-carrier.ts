// Letters in a folder: on a stick that is carried over, or one that something else keeps in step between two machines. Each
// letter is a file; those that have expired are removed by whoever sees them.
//
//   BITS-NUMBER-HASH.letter      4,096 bytes
//
// Bounds: 1,024 files are looked at, the names of 4,096 that were read are remembered.

import { createHash } from 'node:crypto'
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { type Bucket, decodeLetterHead, LETTER_BYTES } from '#wire/letter.ts'
import { bucketName, type Carrier, type OnLetter } from './carrier.ts'

const POLL_MS = 1_000
const MAX_FILES = 1024
const MAX_READ = 4096
const NAME = /^([0-9]{1,2}-[0-9]{1,5})-[0-9a-f]{32}\.letter$/

export class FolderCarrier implements Carrier {
  readonly name = 'folder'
  readonly isReady = true
  readonly #folder: string
  readonly #nowMs: () => number
  readonly #listening = new Map<string, Set<OnLetter>>()
  readonly #read = new Set<string>()
  #poll: NodeJS.Timeout | undefined
  #isClosed = false

  constructor(folder: string, nowMs: () => number) {
    this.#folder = folder
    this.#nowMs = nowMs
  }

  async post(bucket: Bucket, letter: Uint8Array): Promise<void> {
    await mkdir(this.#folder, { recursive: true })
    const hash = createHash('sha256').update(letter).digest('hex').slice(0, 32)
    const name = `${bucketName(bucket)}-${hash}.letter`
    this.#remember(name)
    const file = path.join(this.#folder, name)
    // Whoever reads it elsewhere is another user; it is sealed.
    await writeFile(`${file}.part`, letter, { mode: 0o644 })
    await rename(`${file}.part`, file)
  }

  subscribe(bucket: Bucket, onLetter: OnLetter): () => void {
    const name = bucketName(bucket)
    const listeners = this.#listening.get(name) ?? new Set()
    this.#listening.set(name, listeners.add(onLetter))
    if (this.#poll === undefined) void this.#look()
    return () => {
      listeners.delete(onLetter)
      if (listeners.size === 0) this.#listening.delete(name)
    }
  }

  async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#poll)
  }

  async #look(): Promise<void> {
    const names = await readdir(this.#folder).catch(() => [])
    for (const name of names.slice(0, MAX_FILES)) {
      const listeners = this.#listening.get(NAME.exec(name)?.[1] ?? '')
      if (listeners === undefined || this.#read.has(name)) continue
      const letter = await this.#readLetter(path.join(this.#folder, name)).catch(() => undefined)
      if (letter === undefined) continue
      this.#remember(name)
      for (const onLetter of listeners) onLetter(letter, this.name)
    }
    if (!this.#isClosed) this.#poll = setTimeout(() => void this.#look(), POLL_MS)
  }

  async #readLetter(file: string): Promise<Uint8Array | undefined> {
    // Somebody else may still be copying it.
    if ((await stat(file)).size !== LETTER_BYTES) return undefined
    const letter = await readFile(file)
    const head = decodeLetterHead(letter)
    if (head !== undefined && head.expiresMs > this.#nowMs()) return letter
    await rm(file)
    return undefined
  }

  #remember(name: string): void {
    this.#read.add(name)
    if (this.#read.size > MAX_READ) this.#read.delete(this.#read.values().next().value as string)
  }
}
