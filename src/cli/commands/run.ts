// Commands that are a node: they run in the foreground until they are told to stop.

import { HopliteError } from '#api/errors.ts'
import type { Config } from '#daemon/config.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { openLog } from '#daemon/log.ts'
import { keepLogShort } from '#daemon/log-file.ts'
import { type MachineFlags, planMachine } from '#daemon/machine-plan.ts'
import type { RunOptions } from '#daemon/node.ts'
import { configFile, stateDirectory } from '#platform/directories.ts'
import { stopSignal } from '../stop-signal.ts'

export interface NodeOptions {
  config?: string
  stateDir?: string
}

export async function relay(options: NodeOptions & { exit?: boolean; tun?: boolean }): Promise<void> {
  const { runRelay } = await import('#daemon/relay.ts')
  await run('relay', options, runRelay, config => {
    const changed = withFlags(config, { exit: options.exit, tunnel: options.tun })
    if (!changed.exit.tunnel || changed.exit.enabled) return changed
    throw new HopliteError('REQUEST_INVALID', 'start a tunnel: this relay is no exit', 'add --exit')
  })
}

export async function bootstrap(options: NodeOptions): Promise<void> {
  const { runBootstrap } = await import('#daemon/bootstrap.ts')
  await run('bootstrap', options, runBootstrap, config => config)
}

export type DaemonOptions = NodeOptions &
  MachineFlags & { readonly hops?: number; readonly proxy?: string; readonly off?: boolean; readonly tun?: boolean }

export async function daemon(options: DaemonOptions): Promise<void> {
  const { runClient } = await import('#daemon/client.ts')
  const plan = options.tun ? planMachine(options) : undefined
  const main = (config: Config, more: RunOptions) =>
    runClient(config, { ...more, startsOff: options.off ?? false }, plan)
  await run('client', options, main, config => withFlags(config, options))
}

/** Runs a node until it is told to stop, and ends the process. */
export async function run(
  component: string,
  options: NodeOptions,
  main: (config: Config, options: RunOptions) => Promise<void>,
  change: (config: Config) => Config,
): Promise<void> {
  const file = configFile(options.config)
  const config = change(loadConfig(file))
  const stateDir = stateDirectory(options.stateDir)
  keepLogShort(config, stateDir)
  await main(config, {
    stateDir,
    ...(file !== undefined && { configFile: file }),
    signal: stopSignal(),
    log: openLog(config, component),
  })
  // Libraries may keep timers: everything of ours is closed by now.
  process.exit(process.exitCode ?? 0)
}
