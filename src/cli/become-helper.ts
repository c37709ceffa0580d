// What root starts: this process becomes the helper that changes the machine's network, and the node runs as its child, as another
// user without any right; or, where nothing is changed, this process gives all of its rights up and becomes the node.

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import { HopliteError } from '#api/errors.ts'
import type { Config } from '#daemon/config.ts'
import {
  asDaemon,
  assertReadable,
  assertShared,
  configPlace,
  type DaemonLaunch,
  daemonUser,
  giveState,
  mayBecomeOther,
  nodePermissions,
} from '#platform/linux/helper/daemon-user.ts'
import { HELPER_VARIABLE } from '#platform/linux/helper/helper-channel.ts'
import type { HelperOrder } from '#platform/linux/helper/helper-order.ts'
import { type HelperStart, START_VARIABLE } from '#platform/linux/helper/helper-start.ts'
import { fileCalls } from '#platform/linux/libc.ts'
import { siblingModule } from '#platform/module-url.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'

/** ioctl(2): the descriptor stays open in a program that takes this one's place. */
const FIONCLEX = 0x5450n

export interface Node {
  /** The command of the node, with its flags. */
  readonly words: readonly string[]
  readonly config: Config
  readonly stateDir: string
  readonly configFile: string | undefined
  readonly bindsLowPorts?: boolean
  /** Whether it starts processes of its own. */
  readonly hasParts?: boolean
}

export interface HelpedNode extends Node {
  /** What the helper is told, for the user that the node runs as. */
  readonly order: (uid: number) => HelperOrder
  readonly input?: string
}

/** Whether a node that this process became would be root, with what root may. One under Node's permission model has been confined. */
export function isRoot(): boolean {
  const isOurs = process.env[HELPER_VARIABLE] === undefined && process.permission === undefined
  return process.platform === 'linux' && isOurs && mayBecomeOther()
}

/** Becomes the helper of a node; does not return. Throws STATE_LOCKED, STATE_UNREADABLE, PROGRAM_MISSING or NOT_PERMITTED. */
export function becomeHelper(node: HelpedNode): never {
  const launch = launchOf(node)
  const { order, stateDir, input } = node
  const start: HelperStart = { order: order(launch.uid), launch, stateDir, ...(input !== undefined && { input }) }
  const helper = fileURLToPath(siblingModule(import.meta.url, '../platform/linux/helper/helper-process'))
  const flags = isSea() ? [] : ['--no-warnings', '--max-semi-space-size=1', '--max-old-space-size=64']
  become([process.execPath, ...flags, helper], { [START_VARIABLE]: JSON.stringify(start) })
}

/** Becomes a node that needs no rights, without any; does not return. Throws what `becomeHelper` does. */
export function leaveRoot(node: Node): never {
  const launch = launchOf(node)
  const words = asDaemon(launch)
  giveState(node.stateDir, launch)
  become(['/usr/bin/env', ...words], { HOME: process.env['HOME'] ?? node.stateDir, ...launch.env })
}

function launchOf({
  words,
  config,
  stateDir,
  configFile,
  bindsLowPorts = false,
  hasParts = false,
}: Node): DaemonLaunch {
  prepareStateDirectory(stateDir)
  lockState(stateDir)()
  const user = daemonUser(stateDir)
  const main = process.argv[1] ?? ''
  for (const file of [main, ...(configFile === undefined ? [] : [configFile])]) assertReadable(file, user)
  const { folder, turn } = config.meet
  const writes = folder === '' ? [] : [path.resolve(folder)]
  for (const place of writes) assertShared(place, user)
  const permissions = [...nodePermissions(stateDir, writes), ...(hasParts ? ['--allow-child-process'] : [])]
  return {
    ...user,
    command: [
      ...[process.execPath, ...(isSea() ? [] : [...process.execArgv, ...permissions]), main, ...words],
      ...['--state-dir', stateDir],
      ...(configFile === undefined ? [] : ['--config', configFile]),
    ],
    // The single executable takes no options for Node on its command line.
    env: isSea() ? { NODE_OPTIONS: permissions.join(' ') } : {},
    sees: [
      ...[programDirectory(main), process.execPath, stateDir, ...writes],
      ...turn.map(server => path.resolve(server.password_file)),
      ...(configFile === undefined ? [] : [configPlace(configFile, user)]),
    ],
    bindsLowPorts,
  }
}

/** Another program in the place of this one: with the same process id, and the same channel to whoever started it. */
function become(words: readonly string[], env: Readonly<Record<string, string>>): never {
  const [program = ''] = words
  process.execve?.(program, [...words], { ...process.env, ...env, ...keptChannel() })
  throw new HopliteError('PROGRAM_MISSING', 'give up what root may: this Node cannot', 'start it as another user')
}

/** What tells a program that takes this one's place of the channel that Node made for this one. */
function keptChannel(): Record<string, string> {
  if (!process.connected) return {}
  const [, fd] = /(?:^|\0)NODE_CHANNEL_FD=([0-9]+)(?:\0|$)/.exec(readFileSync('/proc/self/environ', 'latin1')) ?? []
  if (fd === undefined || fileCalls().ioctl(Number(fd), FIONCLEX, 0n) !== 0) return {}
  return { NODE_CHANNEL_FD: fd }
}

/** Where the program and its libraries are: up to the outermost node_modules, or the package itself. */
function programDirectory(main: string): string {
  const outermost = main.indexOf('/node_modules/')
  if (outermost >= 0) return main.slice(0, outermost) || '/'
  let directory = path.dirname(main)
  while (directory !== '/' && !existsSync(path.join(directory, 'package.json'))) directory = path.dirname(directory)
  return directory
}
