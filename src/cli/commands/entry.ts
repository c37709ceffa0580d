import { readFileSync } from 'node:fs'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import { loadConfig } from '#daemon/config.ts'
import { type EntryPlan, entryOrder, type PeerCount, readEntryFile } from '#daemon/entry/entry-plan.ts'
import { assertNothingPending, helperOrder } from '#daemon/entry/tunnel-network.ts'
import { parseListen } from '#daemon/listen.ts'
import { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { parseAddress } from '#wire/address.ts'
import { isTargetHost, type Target } from '#wire/control.ts'
import type { WgQuickConfig } from '#wire/wg-quick.ts'
import { assertBootstrap, progress, startDaemon, waitFor } from '../background.ts'
import { becomeHelper, isRoot, leaveRoot } from '../become-helper.ts'
import { print } from '../output.ts'
import { bindsLowPorts, isLow, run } from './run.ts'
import { describe } from './status.ts'

/** A handshake and its first repetition. */
const ANSWER_MS = 7_000
const POLL_MS = 100

export interface EntryOptions {
  config?: string
  stateDir?: string
  json?: boolean
  peers: number
  listen?: string
  to?: string
  runHooks?: boolean
  killSwitch: boolean
}

/** Leads a WireGuard tunnel to its server over peers: in the background, or as the very process when `isDaemon`. */
export async function entry(file: string | undefined, options: EntryOptions, isDaemon: boolean): Promise<void> {
  const plan = planOf(file, options)
  if (isDaemon) {
    if (isRoot()) startAsRoot(file, plan, options)
    const { runEntry } = await import('#daemon/entry/entry.ts')
    const memory = {}
    return run(
      'entry',
      options,
      (config, more) => runEntry(config, more, plan, memory),
      config => config,
    )
  }
  const configPath = configFile(options.config)
  const config = loadConfig(configPath)
  assertBootstrap(config, configPath)
  const stateDir = stateDirectory(options.stateDir)
  prepareStateDirectory(stateDir)
  const running = await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
  if (running !== undefined)
    throw new HopliteError(
      'STATE_LOCKED',
      `start an entry: a node (${running.role}) runs already`,
      'hoplite down first',
    )
  if (plan.kind === 'tunnel' && options.json !== true) sayAboutFile(plan.file, plan.runsHooks)
  const daemon = startDaemon(argumentsOf(file, options), { config, file: configPath, stateDir })
  const isThere = ({ role, state }: Status) => role === 'entry' && state === 'ready'
  const ready = await waitFor(isThere, stateDir, daemon, progress(options.json))
  const status = plan.kind === 'tunnel' ? await answered(stateDir, ready) : ready
  print(options.json, { ok: true, ...status }, `${summary(plan, status)}\n${describe(status)}`)
}

/** An entry that root starts: one with a tunnel gets a helper, which reads the file that others may not. */
function startAsRoot(file: string | undefined, plan: EntryPlan, options: EntryOptions): never {
  const stateDir = stateDirectory(options.stateDir)
  const found = configFile(options.config)
  const config = loadConfig(found)
  const node = { words: argumentsOf(file, options), config, stateDir, configFile: found }
  if (plan.kind === 'listen' || file === undefined) {
    assertNothingPending(stateDir)
    leaveRoot({ ...node, bindsLowPorts: bindsLowPorts(config) || isLow(options.listen ?? '') })
  }
  becomeHelper({
    ...{ ...node, bindsLowPorts: bindsLowPorts(config) },
    order: uid => helperOrder({ stateDir, order: entryOrder(plan), hooks: plan.runsHooks ? plan.file.hooks : [] }, uid),
    input: readFileSync(file, 'utf8'),
  })
}

function planOf(file: string | undefined, options: EntryOptions): EntryPlan {
  const peers = options.peers as PeerCount
  if (file !== undefined && options.listen === undefined && options.to === undefined) {
    const { name, config } = readEntryFile(file)
    const { runHooks: runsHooks = false, killSwitch } = options
    return { kind: 'tunnel', peers, name, file: config, runsHooks, killSwitch }
  }
  const { listen, to } = options
  if (file !== undefined || listen === undefined || to === undefined)
    throw new HopliteError(
      'REQUEST_INVALID',
      'start an entry: neither a file nor both --listen and --to',
      'hoplite entry FILE.conf, or hoplite entry --listen 127.0.0.1:51820 --to HOST:PORT',
    )
  return { kind: 'listen', peers, listen: parseListen(listen), to: parseTarget(to) }
}

function parseTarget(text: string): Target {
  const address = parseAddress(text)
  if (address !== undefined) return address
  const [, host = '', port = ''] = /^([^:[\]]+):([0-9]{1,5})$/.exec(text.toLowerCase()) ?? []
  if (isTargetHost(host) && Number(port) >= 1 && Number(port) <= 65_535) return { host, port: Number(port) }
  throw new HopliteError('REQUEST_INVALID', `read --to: found "${text}"`, 'write it like vpn.example.net:51820')
}

/** Gives the servers the time of a handshake to answer our own device. */
async function answered(stateDir: string, ready: Status): Promise<Status> {
  const until = performance.now() + ANSWER_MS
  let status = ready
  while (!hasAnswered(status) && performance.now() < until) {
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
    status = (await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)) ?? status
  }
  return status
}

function hasAnswered({ routes }: Status): boolean {
  return routes.every(({ isProven }) => isProven)
}

/** The same again for the process in the background. */
function argumentsOf(file: string | undefined, options: EntryOptions): string[] {
  return [
    'entry-daemon',
    ...(file === undefined ? [] : [file]),
    ...['--peers', String(options.peers)],
    ...(options.listen === undefined ? [] : ['--listen', options.listen]),
    ...(options.to === undefined ? [] : ['--to', options.to]),
    ...(options.runHooks ? ['--run-hooks'] : []),
    ...(options.killSwitch ? [] : ['--no-kill-switch']),
  ]
}

function sayAboutFile({ hooks, notes, peers }: WgQuickConfig, runsHooks: boolean): void {
  const lines = [
    ...notes.map(({ line, text }) => `line ${line}: ${text}`),
    ...(hooks.length > 0
      ? [runsHooks ? 'runs these commands:' : 'does not run these commands (--run-hooks does):']
      : []),
    ...hooks.map(({ when, command }) => `  ${when} = ${command}`),
    ...(peers.some(({ endpoint }) => endpoint !== undefined && /[^0-9a-f.:]/i.test(endpoint.host))
      ? ["the server's name is looked up once, by this machine's own resolver, who sees it"]
      : []),
  ]
  if (lines.length > 0) process.stderr.write(`${lines.join('\n')}\n`)
}

function summary(plan: EntryPlan, status: Status): string {
  if (plan.kind === 'tunnel')
    return hasAnswered(status)
      ? `Connected: ${status.interface} enters your VPN through a stranger.`
      : `${status.interface} is up, and your VPN has not answered yet: are the file's keys and Endpoint right?`
  return [
    "Ready. Change two lines in your WireGuard client's file:",
    `  [Interface] MTU = ${status.mtu}`,
    `  [Peer]      Endpoint = ${status.listening['wireguard']?.[0] ?? ''}`,
    'Your client must send to that address itself, not through its own tunnel.',
  ].join('\n')
}
