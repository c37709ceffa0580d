import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { loadConfig, withFlags } from '#daemon/config.ts'
import { hasCarriers } from '#daemon/letter-carriers.ts'
import { configFile, socketPath, stateDirectory } from '#platform/directories.ts'
import { prepareStateDirectory } from '#platform/state-file.ts'
import { type Daemon, progress, startDaemon, waitFor } from '../background.ts'
import { print } from '../output.ts'
import { describe } from './status.ts'

export interface UpOptions {
  config?: string
  stateDir?: string
  json?: boolean
  hops?: number
  proxy?: string
  spendLimit?: number
}

/** Starts the daemon if none runs, and waits until it has a route; for who has set up devices alone, until it answers. */
export async function up(options: UpOptions): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const socket = socketPath(stateDir)
  const config = withFlags(loadConfig(configFile(options.config)), options)
  if (config.network.bootstrap.length === 0 && hasCarriers(config)) {
    await ensureDaemon(options)
    const status = await callAction(socket, 'status', {})
    const text = `Up for your devices alone: no bootstrap node is set in [network], so there is no route.\n${describe(status)}`
    return print(options.json, { ok: true, ...status }, text)
  }
  const { status: before, daemon } = await findOrStart(options, false)
  if (before?.state === 'off') await callAction(socket, 'connect', {})
  const isThere = ({ state }: Status) => state === 'ready'
  const status = await waitFor(isThere, stateDir, daemon, progress(options.json))
  const proxy = status.listening['proxy']?.[0] ?? ''
  print(
    options.json,
    { ok: true, ...status },
    `Connected. Proxy (SOCKS5 and HTTP CONNECT): ${proxy}\n${describe(status)}`,
  )
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
  if (status !== undefined) return { status, daemon: undefined }
  const args = [
    'daemon',
    ...(options.hops === undefined ? [] : ['--hops', String(options.hops)]),
    ...(options.proxy === undefined ? [] : ['--proxy', options.proxy]),
    ...(options.spendLimit === undefined ? [] : ['--spend-limit', String(options.spendLimit)]),
    ...(startsOff ? ['--off'] : []),
  ]
  return { status, daemon: startDaemon(args, { config, file, stateDir }) }
}
