// Commands that are a node: they run in the foreground until they are told to stop.

import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import type { Config } from '#daemon/config.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { keepRunning } from '#daemon/keep-running.ts'
import { openLog } from '#daemon/log.ts'
import { keepLogShort } from '#daemon/log-file.ts'
import { type MachineFlags, planMachine } from '#daemon/machine-plan.ts'
import type { RunOptions } from '#daemon/node.ts'
import { monotonicMs } from '#platform/clock.ts'
import { configFile, stateDirectory } from '#platform/directories.ts'
import { openServiceWatch } from '#platform/linux/service-notify.ts'
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

export async function rendezvous(options: NodeOptions): Promise<void> {
  const { runRendezvous } = await import('#daemon/rendezvous.ts')
  await run('rendezvous', options, runRendezvous, config => config)
}

export type DaemonOptions = NodeOptions &
  MachineFlags & {
    readonly hops?: number
    readonly proxy?: string
    readonly spendLimit?: number
    readonly country?: readonly string[]
    readonly avoidCountry?: readonly string[]
    readonly off?: boolean
    readonly tun?: boolean
  }

export async function daemon(options: DaemonOptions): Promise<void> {
  const { runClient } = await import('#daemon/client.ts')
  const plan = options.tun ? planMachine(options) : undefined
  let startsOff = options.off ?? false
  const onSwitched = (isOn: boolean) => {
    startsOff = !isOn
  }
  const memory = {}
  const main = (config: Config, more: RunOptions) => runClient(config, { startsOff, onSwitched, ...more }, plan, memory)
  await run('client', options, main, config => withFlags(config, options))
}

export async function issuer(options: NodeOptions): Promise<void> {
  const { runIssuer } = await import('#daemon/issuer.ts')
  await run('issuer', options, runIssuer, config => config)
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
  const watch = process.platform === 'linux' ? openServiceWatch(process.env) : undefined
  const runOptions: RunOptions = {
    onUp: () => watch?.ready(),
    stateDir,
    ...(file !== undefined && { configFile: file }),
    signal: stopSignal(),
    log: openLog(config, component),
  }
  await keepRunning(more => main(config, more), runOptions, {
    canBeOff: component === 'client',
    now: monotonicMs,
    jitter: Math.random,
    wait: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
  })
  // Libraries may keep timers: everything of ours is closed by now.
  process.exit(process.exitCode ?? 0)
}
