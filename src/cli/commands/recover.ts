// `hoplite recover`: puts the machine's network back as it was before a node that died changed it.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { PART_FOLDERS } from '#daemon/parts-file.ts'
import { stateDirectory } from '#platform/directories.ts'
import { Changes } from '#platform/linux/changes.ts'
import { lockState } from '#platform/state-lock.ts'
import { print } from '../output.ts'

const DONE = 'The network is as it was.'

/**
 * Undoes every change that the journals of the state directory and of the daemon's parts below it have, newest first: the firewall, which keeps everything in,
 * goes last. Throws STATE_LOCKED while a node uses the directory, or what could not be undone.
 */
export async function recover(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const directory = stateDirectory(options.stateDir)
  const undone: string[] = []
  for (const one of [...PART_FOLDERS.map(name => path.join(directory, name)), directory])
    if (existsSync(one)) undone.push(...(await undoAll(one)))
  const text = undone.length === 0 ? nothing(directory) : [...undone.map(id => `undone: ${id}`), DONE].join('\n')
  print(options.json, { ok: true, undone }, text)
}

/** Gives the ids of what it undid. */
async function undoAll(directory: string): Promise<readonly string[]> {
  const unlock = lockState(directory)
  try {
    const changes = Changes.open(directory)
    const ids = changes.pending().toReversed()
    await changes.undoAll()
    return ids
  } finally {
    unlock()
  }
}

/** Root's nodes have a state directory of their own. */
function nothing(directory: string): string {
  const isRoot = (process.getuid?.() ?? 0) === 0
  return `Nothing to undo in ${directory}.${isRoot ? '' : '\nWhat a node of root left: sudo hoplite recover'}`
}
