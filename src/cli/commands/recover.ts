// `hoplite recover`: puts the machine's network back as it was before a node that died changed it.

import path from 'node:path'
import { recoverNetwork } from '#daemon/client/recovery.ts'
import { PART_FOLDERS } from '#daemon/parts/parts-file.ts'
import { ENTRY_JOURNAL, journalDirectory } from '#platform/linux/network/changes.ts'
import { stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'

const DONE = 'The network is as it was.'

/** For a node and the parts of it. Throws STATE_LOCKED while a node uses the directory, or what could not be undone. */
export async function recover(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const directory = stateDirectory(options.stateDir)
  const undone: string[] = []
  const entry = path.join(directory, PART_FOLDERS[0])
  const ofHelper = path.join(journalDirectory(directory), ENTRY_JOURNAL)
  if (ofHelper !== entry) undone.push(...(await recoverNetwork(entry, ofHelper)))
  for (const one of [...PART_FOLDERS.map(name => path.join(directory, name)), directory])
    undone.push(...(await recoverNetwork(one)))
  const text = undone.length === 0 ? nothing(directory) : [...undone.map(id => `undone: ${id}`), DONE].join('\n')
  print(options.json, { ok: true, undone }, text)
}

/** Root's nodes have a state directory of their own. */
function nothing(directory: string): string {
  const isRoot = (process.getuid?.() ?? 0) === 0
  return `Nothing to undo in ${directory}.${isRoot ? '' : '\nWhat a node of root left: sudo hoplite recover'}`
}
