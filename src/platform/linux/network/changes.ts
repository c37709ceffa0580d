// The journal of what Hoplite has changed on this machine: each change is recorded with its undo, and on the disk, before it
// is done. Whoever holds the state directory next, after a crash or a restart too, can undo everything.
//
// The file: one line of JSON for each change, { id, undo }, oldest first. A last line without its end was being written when
// the process died: that change was not begun.

import { closeSync, fsyncSync, lstatSync, openSync, rmSync, statSync, writeSync } from 'node:fs'
import path from 'node:path'
import { type ErrorCode, HopliteError } from '#api/errors.ts'
import { prepareStateDirectory, readStateFile, setAside, writeStateFile } from '../../state/state-file.ts'
import { perform, revert, type Step, type Undo, undoOf } from './steps.ts'

const FILE = 'network-changes.jsonl'
const MAX_BYTES = 16 * 1024 * 1024
const MAX_CHANGES = 4096

export interface Change {
  /** What it is about, such as `firewall hoplite0`: unique in a journal. */
  readonly id: string
  readonly step: Step
  /** Doing it puts it in the place of an earlier change with the same id, with no moment between. */
  readonly replaces?: true
}

interface Recorded {
  readonly id: string
  readonly undo: Undo
}

/**
 * Where the journal of a node is. Root's is beside the state directory and not in it: that belongs to the daemon, which has no
 * rights, and an undo is carried out with all of them.
 */
export function journalDirectory(stateDirectory: string): string {
  return process.getuid?.() === 0 ? `${stateDirectory}.network` : stateDirectory
}

/** Below the journal of root's daemon: that of the tunnel of one's own VPN. */
export const ENTRY_JOURNAL = 'entry'

/** Makes the directory of a journal. Throws STATE_UNREADABLE when it is somebody else's. */
export function prepareJournal(directory: string): void {
  prepareStateDirectory(directory)
  const found = lstatSync(directory)
  if (found.isDirectory() && found.uid === process.getuid?.()) return
  const what = `use ${directory}: it is not a directory of this user's own`
  throw new HopliteError('STATE_UNREADABLE', what, 'see who made it, and remove it')
}

/** Journals that this process has open, by their files: whoever changes the machine beside others writes down the same one. */
const opened = new Map<string, WeakRef<Changes>>()

export class Changes {
  readonly #file: string
  #recorded: readonly Recorded[]

  private constructor(file: string, recorded: readonly Recorded[]) {
    this.#file = file
    this.#recorded = recorded
  }

  /**
   * Opens the journal in a directory, which the caller has locked. What an earlier run left is in it. A journal with
   * a line that makes no sense is kept as `.damaged-N`; its other lines count. Throws STATE_UNREADABLE.
   */
  static open(directory: string): Changes {
    const file = path.join(directory, FILE)
    const bytes = readStateFile(file, MAX_BYTES)
    if (bytes === undefined) return Changes.#of(file, [])
    assertOwn(file)
    const lines = Buffer.from(bytes).toString('utf8').split('\n').slice(0, -1)
    const recorded = lines.map(parseLine)
    const understood = recorded.filter(entry => entry !== undefined)
    if (understood.length < recorded.length) setAside(file)
    const changes = Changes.#of(file, understood)
    // Written anew: a torn last line would join the next one.
    if (understood.length > 0) changes.#write(understood)
    else rmSync(file, { force: true })
    return changes
  }

  static #of(file: string, recorded: readonly Recorded[]): Changes {
    const changes = opened.get(file)?.deref() ?? new Changes(file, recorded)
    changes.#recorded = recorded
    opened.set(file, new WeakRef(changes))
    return changes
  }

  /** The ids of the changes in the journal in a directory, "?" for what makes no sense. It is read and left as it is. */
  static peek(directory: string): readonly string[] {
    const bytes = readStateFile(path.join(directory, FILE), MAX_BYTES)
    if (bytes === undefined) return []
    return Buffer.from(bytes)
      .toString('utf8')
      .split('\n')
      .slice(0, -1)
      .map(line => parseLine(line)?.id ?? '?')
  }

  /** The ids of the changes that are recorded, oldest first. */
  pending(): readonly string[] {
    return this.#recorded.map(({ id }) => id)
  }

  /** Records a change and then does it. Throws as `perform` does; the record stays, for what was done of it. */
  async make({ id, step, replaces }: Change): Promise<void> {
    const known = this.#recorded.some(entry => entry.id === id)
    if (known && replaces !== true) throw new Error(`the change ${id} is recorded already`)
    if (!known) this.#append({ id, undo: undoOf(step) })
    await perform(step)
  }

  /**
   * Makes the changes of a plan in order, in the place of what is recorded: those that replace an earlier one come first,
   * so that a firewall stays up while everything behind it is undone and made anew. When one fails, all are undone again
   * but the replacing ones, and the error is thrown.
   */
  async makeAll(plan: readonly Change[]): Promise<void> {
    const [first, rest] = [plan.filter(change => change.replaces), plan.filter(change => !change.replaces)]
    const kept = new Set(first.map(({ id }) => id))
    for (const change of first) await this.make(change)
    await this.#undo(({ id }) => !kept.has(id))
    try {
      for (const change of rest) await this.make(change)
    } catch (error) {
      await this.#undo(({ id }) => !kept.has(id)).catch(() => undefined)
      throw error
    }
  }

  /** Undoes one change, if it is recorded. Throws as `undoAll` does. */
  undo(id: string): Promise<void> {
    return this.#undo(entry => entry.id === id)
  }

  /**
   * Undoes everything, newest first; what is gone already counts as undone. What cannot be undone stays recorded, the rest
   * is undone all the same, and CHANGE_FAILED, NOT_PERMITTED or PROGRAM_MISSING says what is left.
   */
  undoAll(): Promise<void> {
    return this.#undo(() => true)
  }

  async #undo(chosen: (entry: Recorded) => boolean): Promise<void> {
    const failures: { readonly id: string; readonly error: unknown }[] = []
    for (const entry of this.#recorded.toReversed()) {
      if (!chosen(entry)) continue
      try {
        await revert(entry.undo)
        this.#write(this.#recorded.filter(other => other !== entry))
      } catch (error) {
        failures.push({ id: entry.id, error })
      }
    }
    if (failures.length > 0) throw notUndone(failures)
  }

  #append(entry: Recorded): void {
    if (this.#recorded.length >= MAX_CHANGES) throw new Error(`more than ${MAX_CHANGES} changes`)
    if (this.#recorded.length === 0) this.#write([])
    try {
      const handle = openSync(this.#file, 'a', 0o600)
      try {
        writeSync(handle, `${JSON.stringify(entry)}\n`)
        fsyncSync(handle)
      } finally {
        closeSync(handle)
      }
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException
      const advice = 'check who owns it, and the disk'
      throw new HopliteError('STATE_UNREADABLE', `write ${this.#file}: ${code ?? message}`, advice, error)
    }
    this.#recorded = [...this.#recorded, entry]
  }

  /** Makes these the whole journal; one that changes were taken out of until none was left is removed. */
  #write(recorded: readonly Recorded[]): void {
    if (recorded.length === 0 && this.#recorded.length > 0) rmSync(this.#file, { force: true })
    else writeStateFile(this.#file, recorded.map(entry => `${JSON.stringify(entry)}\n`).join(''))
    this.#recorded = recorded
  }
}

/** What is left, with the reason's own code when all of it has one reason: no rights, or a program that is missing. */
function notUndone(failures: readonly { readonly id: string; readonly error: unknown }[]): HopliteError {
  const what = failures.map(({ id, error }) => `${id}: ${(error as Error).message}`).join('; ')
  const [reason, ...others] = failures.map(({ error }) => error)
  const code = codeOf(reason)
  const isOne =
    (code === 'NOT_PERMITTED' || code === 'PROGRAM_MISSING') && others.every(other => codeOf(other) === code)
  const first = isOne ? (reason as HopliteError).advice : 'mend what it names'
  return new HopliteError(isOne ? code : 'CHANGE_FAILED', `undo ${what}`, `${first}, then "hoplite recover"`, reason)
}

function codeOf(error: unknown): ErrorCode | undefined {
  return error instanceof HopliteError ? error.code : undefined
}

/** The undo runs programs with our rights: nobody else's file decides which. */
function assertOwn(file: string): void {
  const owner = statSync(file).uid
  if (owner === process.getuid?.()) return
  throw new HopliteError('STATE_UNREADABLE', `read ${file}: it belongs to user ${owner}`, 'run as that user')
}

function parseLine(line: string): Recorded | undefined {
  try {
    const { id, undo } = JSON.parse(line)
    const known = ['commands', 'sysctl', 'file', 'cover'].includes(undo?.kind)
    return typeof id === 'string' && known ? { id, undo } : undefined
  } catch {
    return undefined
  }
}
