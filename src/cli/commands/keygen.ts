import { makeNodeKeys } from '#daemon/keygen.ts'
import { stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'

/** Makes a node's keys and prints its id. */
export async function keygen(options: { stateDir?: string; force?: boolean; json?: boolean }): Promise<void> {
  const directory = stateDirectory(options.stateDir)
  const id = makeNodeKeys(directory, options.force ?? false)
  print(options.json, { ok: true, id, directory }, `Node id ${id}\nKeys are in ${directory}.`)
}
