// How much a process may have, and how much it has: open files, memory, the disk with its state.

import { readdirSync, readFileSync, statfsSync, statSync } from 'node:fs'
import { getHeapStatistics } from 'node:v8'

export interface Share {
  readonly used: number
  readonly limit: number
}

export interface ProcessReadings {
  /** Files and sockets; undefined where the system does not tell. */
  readonly files?: Share & { readonly isFull: boolean }
  /** Bytes of the control plane's objects. */
  readonly heap: Share
  /** Bytes of memory, where a container or service has a bound of its own. */
  readonly memory?: Share
  /** Bytes left where the state is kept. */
  readonly diskFree?: number
}

/** Old systems are asked no more often than this: it takes a descriptor, and time that grows with their number. */
const FRESH_MS = 100
const MOST_RESERVED = 256

/** So many are kept back for the node itself: its API, its log, its state, the next hops of what is open. */
function reservedFiles(limit: number): number {
  return Math.max(16, Math.min(MOST_RESERVED, Math.floor(limit / 8)))
}

/** The files and sockets of this process. */
export class OpenFiles {
  /** Read while there is a descriptor to read it by. */
  readonly #limit = readMostFiles()
  #counted = 0
  #countedMs = Number.NEGATIVE_INFINITY

  /** Whether one more may be opened for others. */
  hasRoom(): boolean {
    const { used, limit } = this.read() ?? { used: 0, limit: Number.POSITIVE_INFINITY }
    return used < limit - reservedFiles(limit)
  }

  read(): Share | undefined {
    if (this.#limit === undefined) return undefined
    const used = this.#count(this.#limit)
    return used === undefined ? undefined : { used, limit: this.#limit }
  }

  /** Linux 6.2 and later say how many there are without one more being opened for it. */
  #count(most: number): number | undefined {
    try {
      const told = statSync('/proc/self/fd').size
      if (told > 0) return told
      const now = performance.now()
      if (now - this.#countedMs < FRESH_MS) return this.#counted
      this.#counted = readdirSync('/proc/self/fd').length
      this.#countedMs = now
      return this.#counted
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      return code === 'EMFILE' || code === 'ENFILE' ? most : undefined
    }
  }
}

/** Of this process: there is one. */
export const openFiles = new OpenFiles()

export class ProcessLimits {
  readonly #stateDir: string

  constructor(stateDir: string) {
    this.#stateDir = stateDir
  }

  read(): ProcessReadings {
    const files = openFiles.read()
    const heap = getHeapStatistics()
    const rss = process.memoryUsage.rss()
    const bound = process.constrainedMemory()
    // What no bound is set for is told as a number beyond all memory.
    const isBounded = bound > 0 && bound < Number.MAX_SAFE_INTEGER
    const diskFree = readDiskFree(this.#stateDir)
    return {
      ...(files !== undefined && { files: { ...files, isFull: !openFiles.hasRoom() } }),
      heap: { used: heap.used_heap_size, limit: heap.heap_size_limit },
      ...(isBounded && { memory: { used: rss, limit: bound } }),
      ...(diskFree !== undefined && { diskFree }),
    }
  }
}

function readMostFiles(): number | undefined {
  try {
    const limit = /^Max open files\s+(\d+)/m.exec(readFileSync('/proc/self/limits', 'utf8'))?.[1]
    return limit === undefined ? undefined : Number(limit)
  } catch {
    return undefined
  }
}

function readDiskFree(directory: string): number | undefined {
  try {
    const { bavail, bsize } = statfsSync(directory)
    return bavail * bsize
  } catch {
    return undefined
  }
}
