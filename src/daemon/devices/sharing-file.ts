// What this device offers and has accepted of others, in a file of the state directory: sharing.state, 0600, written whole or not
// at all.

import path from 'node:path'
import { z } from 'zod'
import { HopliteError } from '#api/errors.ts'
import { NO_SHARING, type SharingState } from '#meet/sharing.ts'
import { assertPrivate, readStateFile, writeStateFile } from '#platform/state/state-file.ts'
import { decodeSharing, encodeSharing } from '#wire/device-sharing.ts'

const FILE = 'sharing.state'
const MAX_FILE_BYTES = 256 * 1024

const saved = z.strictObject({
  offers: z.array(z.strictObject({ network: z.string(), to: z.array(z.string()) })),
  peers: z.array(
    z.strictObject({
      id: z.string(),
      version: z.number(),
      isHeard: z.boolean(),
      told: z.string(),
      /** The message as it came, in base64. */
      heard: z.string().optional(),
      accepted: z.array(z.string()),
    }),
  ),
})

export class SharingFile {
  readonly #file: string
  #written = ''

  constructor(stateDir: string) {
    this.#file = path.join(stateDir, FILE)
  }

  /** Reads it; nothing is shared without a file. Throws STATE_UNREADABLE when it is damaged or open to others. */
  read(): SharingState {
    const bytes = readStateFile(this.#file, MAX_FILE_BYTES)
    if (bytes === undefined) return NO_SHARING
    assertPrivate(this.#file)
    this.#written = Buffer.from(bytes).toString('utf8')
    try {
      const { offers, peers } = saved.parse(JSON.parse(this.#written))
      return {
        offers,
        peers: peers.map(({ heard, ...peer }) => ({
          ...peer,
          heard: heard === undefined ? undefined : decodeSharing(Buffer.from(heard, 'base64')),
        })),
      }
    } catch (error) {
      const advice = 'restore it from a backup; or move it away, and offer and accept again'
      throw new HopliteError('STATE_UNREADABLE', `read ${this.#file}: it is damaged`, advice, error)
    }
  }

  /** Writes it where something has changed. */
  write({ offers, peers }: SharingState): void {
    const entries = peers.map(({ heard, ...peer }) => ({
      ...peer,
      ...(heard !== undefined && { heard: Buffer.from(encodeSharing(heard)).toString('base64') }),
    }))
    const isNothing = offers.length === 0 && peers.length === 0
    const text = `${JSON.stringify({ offers, peers: entries })}\n`
    if (text === this.#written || (isNothing && this.#written === '')) return
    writeStateFile(this.#file, text)
    this.#written = text
  }
}
