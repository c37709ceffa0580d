import { callAction } from '#api/client.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'

/** Makes the node of a state directory read its configuration file again. */
export async function reload(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const { applied, later } = await callAction(socketPath(stateDirectory(options.stateDir)), 'reload', {})
  const lines = [
    ...(applied.length > 0 ? [`Holds from now on: ${applied.join(', ')}`] : []),
    ...(later.length > 0 ? [`Holds when it starts again: ${later.join(', ')}`] : []),
  ]
  print(options.json, { ok: true, applied, later }, lines.length === 0 ? 'Nothing changed.' : lines.join('\n'))
}
