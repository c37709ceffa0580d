// Puts back what a node that died has changed of the machine's network.

import { existsSync } from 'node:fs'
import { Changes, journalDirectory, prepareJournal } from '#platform/linux/network/changes.ts'
import { lockState, lockStateSoon } from '#platform/state/state-lock.ts'

/**
 * Undoes every change that the journal of the node with this state directory has, newest first: the firewall, which keeps
 * everything in, goes last. Gives the ids of what it undid. Throws STATE_LOCKED while a node uses the directory, or what could
 * not be undone.
 */
export async function recoverNetwork(
  stateDir: string,
  journal = journalDirectory(stateDir),
): Promise<readonly string[]> {
  if (![stateDir, journal].some(directory => existsSync(directory))) return []
  const unlock = existsSync(stateDir) ? lockState(stateDir) : () => undefined
  try {
    if (journal !== stateDir) prepareJournal(journal)
    // A helper that ends with its daemon may still be undoing what that left.
    const unlockJournal = journal === stateDir ? () => undefined : await lockStateSoon(journal)
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

/** Whether a node that died has left changes of the network. */
export function isNetworkLeft(stateDir: string): boolean {
  return Changes.peek(journalDirectory(stateDir)).length > 0
}
