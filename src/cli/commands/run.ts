// Commands that are a node: they run in the foreground until they are told to stop.

import { setTimeout as sleep } from 'node:timers/promises'
import { HopliteError } from '#api/errors.ts'
import { type MachineFlags, planMachine } from '#daemon/client/machine-plan.ts'
import type { Config } from '#daemon/config.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { assertNothingPending } from '#daemon/entry/tunnel-network.ts'
import { keepRunning } from '#daemon/keep-running.ts'
import { openLog } from '#daemon/log.ts'
import { keepLogShort } from '#daemon/log-file.ts'
import type { RunOptions } from '#daemon/node.ts'
import { exitRules } from '#daemon/relay/exit-rules.ts'
import { monotonicMs } from '#platform/clock.ts'
import { giveSigns } from '#platform/heartbeat.ts'
import { helperProcess } from '#platform/linux/helper/helper-channel.ts'
import { journalDirectory } from '#platform/linux/network/changes.ts'
import { openServiceWatch } from '#platform/linux/service-notify.ts'
import { configFile, stateDirectory } from '#platform/state/directories.ts'
import { becomeHelper, isRoot, leaveRoot } from '../become-helper.ts'
import { type DaemonFlags, daemonWords } from '../daemon-words.ts'
import { EXIT, exitCodeOf } from '../exit-codes.ts'
import { giveSignsToKeeper } from '../kept.ts'
import { printError } from '../output.ts'
import { stopSignal } from '../stop-signal.ts'

export interface NodeOptions {
  config?: string
  stateDir?: string
}

type RelayOptions = NodeOptions & { exit?: boolean; tun?: boolean }

export async function relay(options: RelayOptions): Promise<void> {
  if (isRoot()) await startRelayAsRoot(options)
  const { runRelay } = await import('#daemon/relay/relay.ts')
  await run('relay', options, runRelay, config => relayConfig(config, options))
}

function relayConfig(config: Config, options: RelayOptions): Config {
  const changed = withFlags(config, { exit: options.exit, tunnel: options.tun })
  if (!changed.exit.tunnel || changed.exit.enabled) return changed
  throw new HopliteError('REQUEST_INVALID', 'start a tunnel: this relay is no exit', 'add --exit')
}

/** A relay that root starts: an exit that has a tunnel gets a helper. */
async function startRelayAsRoot(options: RelayOptions): Promise<never> {
  const file = configFile(options.config)
  const config = relayConfig(loadConfig(file), options)
  const flags = [...(options.exit ? ['--exit'] : []), ...(options.tun ? ['--tun'] : [])]
  if (!config.exit.tunnel) plainNode(['relay', ...flags], options)
  const { exitOrder } = await import('#daemon/relay/exit-tunnel.ts')
  const tunnel = exitOrder(config, exitRules(config))
  const stateDir = stateDirectory(options.stateDir)
  becomeHelper({
    ...{ words: ['relay', ...flags], config, stateDir, configFile: file },
    order: uid => ({ tunnel, journal: journalDirectory(stateDir), uid, hooks: [] }),
    bindsLowPorts: bindsLowPorts(config),
  })
}

/** A node that root starts and that changes nothing of the machine's network: it is somebody else's from the beginning. */
export function plainNode(words: readonly string[], options: NodeOptions): never {
  const file = configFile(options.config)
  const config = loadConfig(file)
  const stateDir = stateDirectory(options.stateDir)
  assertNothingPending(stateDir)
  leaveRoot({ words, config, stateDir, configFile: file, bindsLowPorts: bindsLowPorts(config) })
}

/** Whether a node that listens for others, for names or for questions about itself does so where only root may. */
export function bindsLowPorts({ relay, client, issuer, metrics, meet }: Config): boolean {
  const { listen, control_listen, websocket_listen } = relay
  const all = [
    listen,
    control_listen,
    websocket_listen,
    client.proxy,
    issuer.listen,
    metrics.listen,
    meet.dns,
    meet.listen,
  ]
  return all.some(isLow)
}

/** Whether it is an address with a port that only root binds, or who is let. */
export function isLow(address: string): boolean {
  const port = Number(address.split(':').at(-1))
  return address !== '' && port > 0 && port < 1_024
}

export async function bootstrap(options: NodeOptions): Promise<void> {
  if (isRoot()) plainNode(['bootstrap'], options)
  const { runBootstrap } = await import('#daemon/bootstrap.ts')
  await run('bootstrap', options, runBootstrap, config => config)
}

export async function rendezvous(options: NodeOptions): Promise<void> {
  if (isRoot()) plainNode(['rendezvous'], options)
  const { runRendezvous } = await import('#daemon/devices/rendezvous.ts')
  await run('rendezvous', options, runRendezvous, config => config)
}

export type DaemonOptions = NodeOptions & DaemonFlags & MachineFlags

export async function daemon(options: DaemonOptions): Promise<void> {
  if (isRoot()) await helpClient(options)
  const { runClient } = await import('#daemon/client/client.ts')
  const plan = options.tun ? planMachine(options) : undefined
  let startsOff = options.off ?? false
  const onSwitched = (isOn: boolean) => {
    startsOff = !isOn
  }
  const memory = {}
  const main = (config: Config, more: RunOptions) => runClient(config, { startsOff, onSwitched, ...more }, plan, memory)
  await run('client', options, main, config => withFlags(config, options))
}

/** The helper of a client that root starts, for its tunnel, for its devices, and for a VPN that is started from its page. */
async function helpClient(options: DaemonOptions): Promise<never> {
  const file = configFile(options.config)
  const config = withFlags(loadConfig(file), options)
  const plan = options.tun ? planMachine(options) : undefined
  const stateDir = stateDirectory(options.stateDir)
  if (plan === undefined) assertNothingPending(stateDir)
  const { clientOrder } = await import('#daemon/client/client-order.ts')
  const { tunnel, mesh } = clientOrder(config, stateDir, plan)
  await (await import('#web/bundle.ts')).freshenBundle()
  becomeHelper({
    words: daemonWords(options),
    ...{ config, stateDir, configFile: file },
    order: uid => ({
      ...(tunnel && { tunnel }),
      ...(mesh && { mesh }),
      journal: journalDirectory(stateDir),
      uid,
      hooks: [],
      mayEnter: plan === undefined,
    }),
    bindsLowPorts: bindsLowPorts(config),
    hasParts: plan === undefined,
  })
}

export async function issuer(options: NodeOptions): Promise<void> {
  if (isRoot()) plainNode(['issuer'], options)
  const { runIssuer } = await import('#daemon/wallet/issuer.ts')
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
  const isUp = giveSignsToKeeper()
  const helper = helperProcess()
  const lost = new AbortController()
  // Without one no right can be had again.
  helper?.onLost(error => lost.abort(error))
  if (helper !== undefined) giveSigns(done => void helper.ask({ verb: 'alive' }).then(done, done))
  const runOptions: RunOptions = {
    onUp: () => {
      watch?.ready()
      isUp()
    },
    stateDir,
    ...(file !== undefined && { configFile: file }),
    signal: AbortSignal.any([stopSignal(), lost.signal]),
    log: openLog(config, component),
  }
  try {
    await keepRunning(more => main(config, more), runOptions, {
      canBeOff: component === 'client',
      now: monotonicMs,
      jitter: Math.random,
      wait: (ms, signal) => sleep(ms, undefined, { signal }).catch(() => {}),
    })
  } catch (error) {
    // What it has started goes when it is gone.
    printError(error, process.argv.includes('--json'))
    process.exit(error instanceof HopliteError ? exitCodeOf(error.code) : EXIT.internal)
  }
  // Libraries may keep timers: everything of ours is closed by now.
  process.exit(process.exitCode ?? 0)
}
