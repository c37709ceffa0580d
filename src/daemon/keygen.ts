// Keys of a node, made before its first start: whoever sets a node up can pass its id on.

import { nodeIdOf } from '#discover/descriptor.ts'
import { makeKeys } from '#platform/state/keys.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'

/** Makes the keys in `stateDir` and returns the node id. Throws KEY_EXISTS unless `force`, which sets the old ones aside. */
export function makeNodeKeys(stateDir: string, force: boolean): string {
  prepareStateDirectory(stateDir)
  return nodeIdOf(makeKeys(stateDir, force).identity.publicKey)
}
