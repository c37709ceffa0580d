import { nodeIdOf } from '#discover/descriptor.ts'
import { stateDirectory } from '#platform/directories.ts'
import { makeKeys } from '#platform/keys.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { print } from '../output.ts'

/** Makes a node's keys and prints its id. */
export async function keygen(options: { stateDir?: string; force?: boolean; json?: boolean }): Promise<void> {
  const directory = stateDirectory(options.stateDir)
  prepareStateDirectory(directory)
  const keys = makeKeys(directory, options.force)
  const id = nodeIdOf(keys.identity.publicKey)
  print(options.json, { ok: true, id, directory }, `Node id ${id}\nKeys are in ${directory}.`)
}
