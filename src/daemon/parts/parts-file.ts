// Which parts of a daemon are on, so that they start again with it. The WireGuard file is a file of its own, kept where its
// owner wants that.

import { rmSync } from 'node:fs'
import path from 'node:path'
import { z } from 'zod'
import { readStateFile, setAside, writeStateFile } from '#platform/state/state-file.ts'
import { MAX_WG_QUICK_BYTES } from '#wire/wg-quick.ts'
import type { Log } from '../log.ts'
import type { EntryWish } from './part-order.ts'

const MAX_BYTES = 4_096
/** Below a daemon's state directory: what each part keeps. */
export const PART_FOLDERS = ['entry', 'share'] as const

const schema = z.strictObject({
  /** What the kept file is used for. */
  entry: z
    .strictObject({
      isOn: z.boolean(),
      form: z.enum(['tunnel', 'listen']),
      listen: z.string().max(60),
      peers: z.union([z.literal(1), z.literal(2)]),
      killSwitch: z.boolean(),
    })
    .optional(),
  share: z.enum(['peer', 'relay']).optional(),
})
type Kept = z.infer<typeof schema>

export class PartsFile {
  readonly #stateDir: string
  readonly #log: Log
  #kept: Kept

  constructor(stateDir: string, log: Log) {
    this.#stateDir = stateDir
    this.#log = log
    this.#kept = this.#load()
  }

  /** What is shared whenever the daemon runs. */
  get share(): Kept['share'] {
    return this.#kept.share
  }

  /** Whether the kept entry starts with the daemon. */
  get isEntryOn(): boolean {
    return this.#kept.entry?.isOn ?? false
  }

  /** How the kept file is used; undefined when none is kept. */
  get form(): EntryWish['form'] | undefined {
    return this.#kept.entry?.form
  }

  /** The entry that is kept, with its file; undefined when none is. */
  get entry(): EntryWish | undefined {
    const { entry } = this.#kept
    const bytes = entry && readStateFile(this.#wireGuard, MAX_WG_QUICK_BYTES)
    if (entry === undefined || bytes === undefined) return undefined
    const { form, listen, peers, killSwitch } = entry
    const file = Buffer.from(bytes).toString('utf8')
    return form === 'tunnel' ? { form, file, peers, killSwitch } : { form, file, peers, listen }
  }

  setShare(share: Kept['share']): void {
    this.#save({ ...this.#kept, share })
  }

  /** Keeps an entry and its file. Throws STATE_UNREADABLE. */
  keepEntry(wish: EntryWish): void {
    writeStateFile(this.#wireGuard, wish.file)
    const { form, peers } = wish
    const listen = wish.form === 'listen' ? wish.listen : ''
    const killSwitch = wish.form === 'tunnel' ? wish.killSwitch : true
    this.#save({ ...this.#kept, entry: { isOn: true, form, listen, peers, killSwitch } })
  }

  switchEntryOff(): void {
    if (this.#kept.entry !== undefined) this.#save({ ...this.#kept, entry: { ...this.#kept.entry, isOn: false } })
  }

  forgetEntry(): void {
    rmSync(this.#wireGuard, { force: true })
    this.#save({ ...this.#kept, entry: undefined })
  }

  #load(): Kept {
    const bytes = readStateFile(this.#file, MAX_BYTES)
    if (bytes === undefined) return {}
    try {
      return schema.parse(JSON.parse(Buffer.from(bytes).toString('utf8')))
    } catch {
      setAside(this.#file)
      this.#log.warn('damaged state file set aside')
      return {}
    }
  }

  /** A full disk costs the memory, not the service. */
  #save(kept: Kept): void {
    this.#kept = kept
    try {
      writeStateFile(this.#file, JSON.stringify(kept))
    } catch {
      this.#log.error('state file not written')
    }
  }

  get #file(): string {
    return path.join(this.#stateDir, 'parts.json')
  }

  get #wireGuard(): string {
    return path.join(this.#stateDir, 'vpn.conf')
  }
}
