// `hoplite recover`: puts the machine's network back as it was before a node that died changed it.

import { existsSync } from 'node:fs'
import { stateDirectory } from '#platform/directories.ts'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/changes.ts'
import { lockState, lockStateSoon } from '#platform/state-lock.ts'
import { print } from '../output.ts'

const DONE = 'The network is as it was.'

/**
 * Undoes every change that the journal of the state directory has, newest first: the firewall, which keeps everything in,
 * goes last. Throws STATE_LOCKED while a node uses the directory, or what could not be undone.
 */
export async function recover(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const directory = stateDirectory(options.stateDir)
  const journal = journalDirectory(directory)
  const undone = [directory, journal].some(existsSync) ? await undoAll(directory, journal) : []
  const text = undone.length === 0 ? nothing(directory) : [...undone.map(id => `undone: ${id}`), DONE].join('\n')
  print(options.json, { ok: true, undone }, text)
}

/** Gives the ids of what it undid. */
async function undoAll(directory: string, journal: string): Promise<readonly string[]> {
  const unlock = existsSync(directory) ? lockState(directory) : () => undefined
  try {
    if (journal !== directory) prepareJournal(journal)
    // A helper that ends with its daemon may still be undoing what that left.
    const unlockJournal = journal === directory ? () => undefined : await lockStateSoon(journal)
    try {
      const changes = Changes.open(journal)
      const ids = changes.pending().toReversed()
      await changes.undoAll()
      return ids
    } finally {
      unlockJournal()
    }
  } finally {
    unlock()
  }
}

/** Root's nodes have a state directory of their own. */
function nothing(directory: string): string {
  const isRoot = (process.getuid?.() ?? 0) === 0
  return `Nothing to undo in ${directory}.${isRoot ? '' : '\nWhat a node of root left: sudo hoplite recover'}`
}
