// Root's nodes that change the machine's network: this process becomes the helper that does that, and the node runs as its
// child, as another user without any right.

import { existsSync } from 'node:fs'
import path from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import {
  assertReadable,
  assertShared,
  configPlace,
  type DaemonLaunch,
  daemonUser,
  nodePermissions,
} from '#platform/linux/daemon-user.ts'
import { HELPER_VARIABLE } from '#platform/linux/helper-channel.ts'
import type { HelperOrder } from '#platform/linux/helper-order.ts'
import { type HelperStart, START_VARIABLE } from '#platform/linux/helper-start.ts'
import { siblingModule } from '#platform/module-url.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { lockState } from '#platform/state-lock.ts'

export interface Node {
  /** The command of the node, with its flags. */
  readonly words: readonly string[]
  readonly stateDir: string
  readonly configFile: string | undefined
  /** What the helper is told, for the user that the node runs as. */
  readonly order: (uid: number) => HelperOrder
  readonly input?: string
  readonly bindsLowPorts?: boolean
  /** Where its letters are left, and read by others. */
  readonly folder?: string
}

/** Whether a node that changes the network, started by this process, would be root with all that root may. */
export function needsHelper(): boolean {
  return process.platform === 'linux' && process.getuid?.() === 0 && process.env[HELPER_VARIABLE] === undefined
}

/** Becomes the helper of a node; does not return. Throws STATE_LOCKED, STATE_UNREADABLE or PROGRAM_MISSING. */
export function becomeHelper(node: Node): never {
  const { words, stateDir, configFile, order, input, bindsLowPorts = false } = node
  const folders = node.folder === undefined ? [] : [path.resolve(node.folder)]
  prepareStateDirectory(stateDir)
  lockState(stateDir)()
  const user = daemonUser(stateDir)
  const main = process.argv[1] ?? ''
  for (const file of [main, ...(configFile === undefined ? [] : [configFile])]) assertReadable(file, user)
  for (const folder of folders) assertShared(folder, user)
  const permissions = nodePermissions(stateDir, ...folders)
  const launch: DaemonLaunch = {
    ...user,
    command: [
      ...[process.execPath, ...(isSea() ? [] : [...process.execArgv, ...permissions]), main, ...words],
      ...['--state-dir', stateDir],
      ...(configFile === undefined ? [] : ['--config', configFile]),
    ],
    // The single executable takes no options for Node on its command line.
    env: isSea() ? { NODE_OPTIONS: permissions.join(' ') } : {},
    sees: [
      ...[programDirectory(main), path.dirname(process.execPath), stateDir, ...folders],
      ...(configFile === undefined ? [] : [configPlace(configFile, user)]),
    ],
    bindsLowPorts,
  }
  const start: HelperStart = { order: order(user.uid), launch, stateDir, ...(input !== undefined && { input }) }
  const helper = fileURLToPath(siblingModule(import.meta.url, '../platform/linux/helper-process'))
  const flags = isSea() ? [] : ['--no-warnings', '--max-semi-space-size=1', '--max-old-space-size=64']
  process.execve?.(process.execPath, [process.execPath, ...flags, helper], {
    ...process.env,
    [START_VARIABLE]: JSON.stringify(start),
  })
  throw new Error('become the helper: this Node cannot')
}

/** Where the program and its libraries are: up to the outermost node_modules, or the package itself. */
function programDirectory(main: string): string {
  const outermost = main.indexOf('/node_modules/')
  if (outermost >= 0) return main.slice(0, outermost) || '/'
  let directory = path.dirname(main)
  while (directory !== '/' && !existsSync(path.join(directory, 'package.json'))) directory = path.dirname(directory)
  return directory
}
