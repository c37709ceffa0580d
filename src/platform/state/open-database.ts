// A SQLite file of the state directory: checked when it is opened, written ahead (WAL), and of a known version. One that is
// damaged is set aside and begun anew; one that a newer program has written is refused, and not a byte of it is changed.

import { existsSync, mkdirSync, renameSync } from 'node:fs'
import path from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { HopliteError } from '#api/errors.ts'
import { setAside } from './state-file.ts'

const BUSY_MS = 5_000
const SQLITE_CORRUPT = 11
const SQLITE_NOTADB = 26
/** Beside the file, while it is open or after a crash. */
const COMPANIONS = ['-wal', '-shm'] as const

/**
 * Opens or makes the file. `steps` lead from an empty file to today's tables, each from the version before it; those that it
 * lacks are made, all or none. Throws STATE_UNREADABLE.
 */
export function openDatabase(file: string, steps: readonly string[]): DatabaseSync {
  try {
    mkdirSync(path.dirname(file), { recursive: true, mode: 0o700 })
    return openChecked(file, steps)
  } catch (error) {
    if (!isDamage(error)) throw coded(file, error)
  }
  const aside = setAside(file)
  for (const end of COMPANIONS) if (existsSync(file + end)) renameSync(file + end, aside + end)
  try {
    return openChecked(file, steps)
  } catch (error) {
    throw coded(file, error)
  }
}

function openChecked(file: string, steps: readonly string[]): DatabaseSync {
  const database = new DatabaseSync(file, { timeout: BUSY_MS })
  try {
    const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number }
    if (version > steps.length) throw tooNew(file, version, steps.length)
    const { quick_check: found } = database.prepare('PRAGMA quick_check(1)').get() as { quick_check: string }
    if (found !== 'ok') throw Object.assign(new Error(found), { errcode: SQLITE_CORRUPT })
    // Written when the process dies; a power cut may take the last moments.
    database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL')
    if (version < steps.length) {
      const missing = steps.slice(version).join(';\n')
      database.exec(`BEGIN IMMEDIATE;\n${missing};\nPRAGMA user_version = ${steps.length};\nCOMMIT`)
    }
    return database
  } catch (error) {
    database.close()
    throw error
  }
}

function isDamage(error: unknown): boolean {
  const { errcode } = error as { readonly errcode?: number }
  return errcode === SQLITE_CORRUPT || errcode === SQLITE_NOTADB
}

function tooNew(file: string, version: number, known: number): HopliteError {
  const what = `open ${file}: a newer version of this program wrote it (${version}, and ${known} is known here)`
  return new HopliteError('STATE_UNREADABLE', what, 'use that version again, or another --state-dir')
}

function coded(file: string, error: unknown): HopliteError {
  if (error instanceof HopliteError) return error
  const { message } = error as Error
  return new HopliteError('STATE_UNREADABLE', `open ${file}: ${message}`, 'check who owns it, and the disk', error)
}
