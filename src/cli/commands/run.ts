// Commands that are a node: they run in the foreground until they are told to stop.

import type { Config } from '#daemon/config.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { openLog } from '#daemon/log.ts'
import type { RunOptions } from '#daemon/node.ts'
import { configFile, stateDirectory } from '#platform/directories.ts'
import { stopSignal } from '../stop-signal.ts'

export interface NodeOptions {
  config?: string
  stateDir?: string
}

export async function relay(options: NodeOptions & { exit?: boolean }): Promise<void> {
  const { runRelay } = await import('#daemon/relay.ts')
  await run('relay', options, runRelay, config => withFlags(config, { exit: options.exit }))
}

export async function bootstrap(options: NodeOptions): Promise<void> {
  const { runBootstrap } = await import('#daemon/bootstrap.ts')
  await run('bootstrap', options, runBootstrap, config => config)
}

export async function daemon(
  options: NodeOptions & { hops?: number; proxy?: string; spendLimit?: number },
): Promise<void> {
  const { runClient } = await import('#daemon/client.ts')
  await run('client', options, runClient, config => withFlags(config, options))
}

export async function issuer(options: NodeOptions): Promise<void> {
  const { runIssuer } = await import('#daemon/issuer.ts')
  await run('issuer', options, runIssuer, config => config)
}

async function run(
  component: string,
  options: NodeOptions,
  main: (config: Config, options: RunOptions) => Promise<void>,
  change: (config: Config) => Config,
): Promise<void> {
  const config = change(loadConfig(configFile(options.config)))
  await main(config, {
    stateDir: stateDirectory(options.stateDir),
    signal: stopSignal(),
    log: openLog(config, component),
  })
  // Libraries may keep timers: everything of ours is closed by now.
  process.exit(process.exitCode ?? 0)
}
