import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { type MachineFlags, machineWords, planMachine } from '#daemon/client/machine-plan.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { hasCarriers } from '#daemon/devices/letter-carriers.ts'
import { assertNothingPending, assertTunnelPossible } from '#daemon/entry/tunnel-network.ts'
import { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { assertBootstrap, type Daemon, progress, startDaemon, waitFor } from '../background.ts'
import { daemonWords } from '../daemon-words.ts'
import { print } from '../output.ts'
import { describe } from './status.ts'

export interface UpOptions extends Partial<MachineFlags> {
  config?: string
  stateDir?: string
  json?: boolean
  hops?: number
  proxy?: string
  tun?: boolean
  spendLimit?: number
  country?: string[]
  avoidCountry?: string[]
}

/** Starts the daemon if none runs, and waits until it has a route; for who has set up devices alone, until it answers. */
export async function up(options: UpOptions): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const socket = socketPath(stateDir)
  const config = withFlags(loadConfig(configFile(options.config)), options)
  if (options.via !== undefined && options.tun !== true)
    throw new HopliteError('REQUEST_INVALID', 'go through a device: that is for the whole machine', 'add --tun')
  if (options.via === undefined && config.network.bootstrap.length === 0 && hasCarriers(config)) {
    await ensureDaemon(options)
    const status = await callAction(socket, 'status', {})
    const text = `Up for your devices alone: no bootstrap node is set in [network], so there is no route.\n${describe(status)}`
    return print(options.json, { ok: true, ...status }, text)
  }
  const { status: before, daemon } = await findOrStart(options, false)
  if (before?.state === 'off') await callAction(socket, 'connect', {})
  const isThere = ({ state }: Status) => state === 'ready'
  const status = await waitFor(isThere, stateDir, daemon, progress(options.json))
  print(options.json, { ok: true, ...status }, `${summary(status)}\n${describe(status)}`)
}

function summary({ listening, interface: name, via }: Status): string {
  if (via !== undefined) return `Connected: this machine goes through ${via}.`
  const proxy = `Proxy (SOCKS5 and HTTP CONNECT): ${listening['proxy']?.[0] ?? ''}`
  return name === undefined ? `Connected. ${proxy}` : `Connected: this machine goes through ${name}. ${proxy}`
}

/** Starts the daemon, switched off, if none runs, and waits until it answers. */
export async function ensureDaemon(options: UpOptions): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const { daemon } = await findOrStart(options, true)
  await waitFor(
    () => true,
    stateDir,
    daemon,
    () => {},
  )
}

async function findOrStart(
  options: UpOptions,
  startsOff: boolean,
): Promise<{ readonly status: Status | undefined; readonly daemon: Daemon | undefined }> {
  const file = configFile(options.config)
  const config = withFlags(loadConfig(file), options)
  const stateDir = stateDirectory(options.stateDir)
  prepareStateDirectory(stateDir)
  const status = await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
  if (status !== undefined) {
    if (options.tun && status.interface === undefined)
      throw new HopliteError(
        'STATE_LOCKED',
        'start the tunnel: the daemon runs already, without one',
        'hoplite down first',
      )
    if (options.tun && status.flags !== undefined) assertSamePlan(options, status)
    return { status, daemon: undefined }
  }
  if (!startsOff && options.via === undefined) assertBootstrap(config, file)
  const plan = options.tun ? planMachine({ killSwitch: true, ...options }) : undefined
  if (plan === undefined) assertNothingPending(stateDir)
  else assertTunnelPossible()
  const args = daemonWords({ ...options, off: startsOff })
  return { status, daemon: startDaemon(args, { config, file, stateDir }) }
}

/** Throws STATE_LOCKED when the tunnel that is up was told something else: what is asked for would not hold. */
function assertSamePlan(options: UpOptions, { flags = [], killSwitch }: Status): void {
  const wanted = machineWords(planMachine({ killSwitch: true, ...options })).join(' ')
  if (wanted === flags.join(' ')) return
  const found = flags.length === 0 ? 'without flags' : `with ${flags.join(' ')}`
  const down = killSwitch ? 'hoplite down --stay-shut' : 'hoplite down'
  throw new HopliteError('STATE_LOCKED', `change the tunnel: it is up ${found}`, `${down}, then this again`)
}
