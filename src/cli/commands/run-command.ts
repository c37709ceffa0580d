// `hoplite run -- COMMAND`: one command whose traffic can go through a route only, without root.

import { loadConfig, withFlags } from '#daemon/config.ts'
import { openLog } from '#daemon/log.ts'
import { configFile, stateDirectory } from '#platform/state/directories.ts'
import { assertBootstrap } from '../background.ts'

export interface RunCommandOptions {
  readonly config?: string
  readonly stateDir?: string
  readonly hops?: number
}

/** Runs a command to its end, and ends this process with its exit code. */
export async function runCommand(words: readonly string[], options: RunCommandOptions): Promise<void> {
  const [command = '', ...args] = words
  const file = configFile(options.config)
  const config = withFlags(loadConfig(file), { hops: options.hops })
  assertBootstrap(config, file)
  const { runCommandThroughRoute } = await import('#daemon/client/command-client.ts')
  // The terminal is the command's: only bugs of ours are told in between.
  const log = openLog({ ...config, log: { ...config.log, level: 'error' } }, 'run')
  const stateDir = stateDirectory(options.stateDir)
  const signal = new AbortController().signal
  process.exit(await runCommandThroughRoute(config, { stateDir, log, signal }, { command, args }))
}
