// Commands that are a node: they run in the foreground until they are told to stop.

import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import type { Config } from '#daemon/config.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { hasDeviceFile } from '#daemon/device-file.ts'
import { exitRules } from '#daemon/exit-rules.ts'
import { keepRunning } from '#daemon/keep-running.ts'
import { openLog } from '#daemon/log.ts'
import { keepLogShort } from '#daemon/log-file.ts'
import { type MachineFlags, machineOrder, planMachine } from '#daemon/machine-plan.ts'
import { devicesBeside, meshOrder } from '#daemon/mesh-order.ts'
import type { RunOptions } from '#daemon/node.ts'
import { assertNothingPending } from '#daemon/tunnel-network.ts'
import { monotonicMs } from '#platform/clock.ts'
import { configFile, stateDirectory } from '#platform/directories.ts'
import { giveSigns } from '#platform/heartbeat.ts'
import { journalDirectory } from '#platform/linux/changes.ts'
import { helperProcess } from '#platform/linux/helper-channel.ts'
import { openServiceWatch } from '#platform/linux/service-notify.ts'
import { becomeHelper, needsHelper } from '../become-helper.ts'
import { type DaemonFlags, daemonWords } from '../daemon-words.ts'
import { stopSignal } from '../stop-signal.ts'

export interface NodeOptions {
  config?: string
  stateDir?: string
}

type RelayOptions = NodeOptions & { exit?: boolean; tun?: boolean }

export async function relay(options: RelayOptions): Promise<void> {
  if (needsHelper()) await helpExit(options)
  const { runRelay } = await import('#daemon/relay.ts')
  await run('relay', options, runRelay, config => relayConfig(config, options))
}

function relayConfig(config: Config, options: RelayOptions): Config {
  const changed = withFlags(config, { exit: options.exit, tunnel: options.tun })
  if (!changed.exit.tunnel || changed.exit.enabled) return changed
  throw new HopliteError('REQUEST_INVALID', 'start a tunnel: this relay is no exit', 'add --exit')
}

/** The helper of an exit that has a tunnel, where root starts it. */
async function helpExit(options: RelayOptions): Promise<void> {
  const file = configFile(options.config)
  const config = relayConfig(loadConfig(file), options)
  if (!config.exit.tunnel) return
  const { exitOrder } = await import('#daemon/exit-tunnel.ts')
  const tunnel = exitOrder(config, exitRules(config))
  const stateDir = stateDirectory(options.stateDir)
  const { listen, control_listen, websocket_listen } = config.relay
  const flags = [...(options.exit ? ['--exit'] : []), ...(options.tun ? ['--tun'] : [])]
  becomeHelper({
    words: ['relay', ...flags],
    stateDir,
    configFile: file,
    order: uid => ({ tunnel, journal: journalDirectory(stateDir), uid, hooks: [] }),
    bindsLowPorts: [listen, control_listen, websocket_listen, config.metrics.listen].some(isLow),
  })
}

/** Whether it is an address with a port that only root binds, or who is let. */
function isLow(address: string): boolean {
  const port = Number(address.split(':').at(-1))
  return address !== '' && port > 0 && port < 1_024
}

export async function bootstrap(options: NodeOptions): Promise<void> {
  const { runBootstrap } = await import('#daemon/bootstrap.ts')
  await run('bootstrap', options, runBootstrap, config => config)
}

export async function rendezvous(options: NodeOptions): Promise<void> {
  const { runRendezvous } = await import('#daemon/rendezvous.ts')
  await run('rendezvous', options, runRendezvous, config => config)
}

export type DaemonOptions = NodeOptions & DaemonFlags & MachineFlags

export async function daemon(options: DaemonOptions): Promise<void> {
  // What goes through a device of one's own is that device's interface too: it is this process's own, and has no helper.
  if (options.via === undefined && needsHelper()) helpClient(options)
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

/** The helper of a client where root starts it: one that the whole machine goes through, or that has devices. */
function helpClient(options: DaemonOptions): void {
  const file = configFile(options.config)
  const config = withFlags(loadConfig(file), options)
  const { client, metrics, meet } = config
  const plan = options.tun ? planMachine(options) : undefined
  const mesh = meshOrder(config, plan !== undefined)
  const stateDir = stateDirectory(options.stateDir)
  // One that has never had a device, and is not to have one, needs no rights.
  if (plan === undefined && (mesh === undefined || !(options.devices || hasDeviceFile(stateDir)))) return
  if (plan === undefined) assertNothingPending(stateDir)
  becomeHelper({
    words: daemonWords(options),
    stateDir,
    configFile: file,
    order: uid => ({
      ...(plan && { tunnel: { ...machineOrder(plan), ...devicesBeside(config) } }),
      ...(mesh && { mesh }),
      journal: journalDirectory(stateDir),
      uid,
      hooks: [],
    }),
    bindsLowPorts: [client.proxy, metrics.listen, meet.dns].some(isLow),
    ...(meet.folder !== '' && { folder: meet.folder }),
  })
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
  const helper = helperProcess()
  if (helper !== undefined) giveSigns(done => void helper.ask({ verb: 'alive' }).then(done, done))
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
