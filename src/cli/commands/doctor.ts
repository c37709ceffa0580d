// `hoplite doctor`: what this machine can and cannot do for Hoplite, and the fix.

import { createSocket } from 'node:dgram'
import { accessSync, constants, existsSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { connect } from 'node:net'
import path from 'node:path'
import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { type Config, defaultConfig, loadConfig } from '#daemon/config.ts'
import { logFile } from '#daemon/log-file.ts'
import { configFile, socketPath, stateDirectory } from '#platform/state/directories.ts'
import { readKeys } from '#platform/state/keys.ts'
import {
  checkClock,
  checkDisk,
  checkFirewall,
  checkForeignFunctions,
  checkNamespaces,
  checkOpenFiles,
  checkPrivileges,
  checkPrivilegeTools,
} from '../machine-checks.ts'
import { print } from '../output.ts'
import { makeReport } from '../report.ts'

const WANTED_BUFFER = 4 * 1024 * 1024
const DIAL_MS = 3_000

export interface Finding {
  readonly check: string
  readonly verdict: 'ok' | 'warning' | 'problem'
  readonly found: string
  readonly fix?: string
}

export interface DoctorOptions {
  config?: string
  stateDir?: string
  json?: boolean
  /** Where to write a report, to be attached to a bug report. */
  bundle?: string
}

/** Prints every finding; the exit code is 1 when there is a problem. */
export async function doctor(options: DoctorOptions): Promise<void> {
  const findings = await examine(options)
  if (options.bundle !== undefined) return writeReport(options.bundle, findings, options)
  const ok = findings.every(({ verdict }) => verdict !== 'problem')
  const width = Math.max(...findings.map(({ check }) => check.length))
  const lines = findings.map(({ check, verdict, found, fix }) => {
    const line = `${verdict.padEnd(8)} ${check.padEnd(width)}  ${found}`
    return fix === undefined ? line : `${line}\n${' '.repeat(width + 11)}→ ${fix}`
  })
  print(options.json, { ok, findings }, lines.join('\n'))
  if (!ok) process.exitCode = 1
}

async function writeReport(file: string, findings: readonly Finding[], options: DoctorOptions): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const status = await callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
  const report = makeReport(findings, checkConfig(options.config).config, status, logFile(stateDir))
  try {
    writeFileSync(file, `${JSON.stringify(report, undefined, 2)}\n`)
  } catch (error) {
    const found = `write ${file}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('STATE_UNREADABLE', found, 'name another file: --bundle FILE', error)
  }
  const told =
    'It has versions, settings, counters and what happened; no address, name, id or path. Look before you send it.'
  print(options.json, { ok: true, file }, `Wrote ${file}.\n${told}`)
}

async function examine(options: { config?: string; stateDir?: string }): Promise<Finding[]> {
  const stateDir = stateDirectory(options.stateDir)
  const { config, finding } = checkConfig(options.config)
  return [
    { check: 'runtime', verdict: 'ok', found: `Node ${process.versions.node} on ${process.platform}-${process.arch}` },
    await checkForeignFunctions(),
    checkLibrary('sodium-native', 'packets cannot be sealed'),
    checkLibrary('udx-native', 'streams cannot be carried'),
    finding,
    checkState(stateDir),
    ...checkDisk(existsSync(stateDir) ? stateDir : nearestParent(stateDir)),
    await checkUdp(),
    ...checkBuffers(),
    checkTun(),
    ...checkPrivileges(),
    ...checkPrivilegeTools(),
    ...checkFirewall(),
    ...checkNamespaces(),
    ...checkOpenFiles(),
    checkClock(),
    ...(await checkBootstrap(config)),
    await checkDaemon(stateDir),
  ]
}

function checkLibrary(name: string, consequence: string): Finding {
  try {
    createRequire(import.meta.url)(name)
    return { check: name, verdict: 'ok', found: 'loads' }
  } catch {
    return { check: name, verdict: 'problem', found: `does not load: ${consequence}`, fix: 'install again: npm ci' }
  }
}

function checkConfig(given: string | undefined): { config: Config; finding: Finding } {
  const file = configFile(given)
  const check = 'configuration'
  try {
    const config = loadConfig(file)
    return { config, finding: { check, verdict: 'ok', found: file ?? 'no file: the defaults' } }
  } catch (error) {
    const { message, advice } = error as HopliteError
    return { config: defaultConfig(), finding: { check, verdict: 'problem', found: message, fix: advice } }
  }
}

function checkState(stateDir: string): Finding {
  const check = 'state'
  try {
    const parent = existsSync(stateDir) ? stateDir : nearestParent(stateDir)
    accessSync(parent, constants.W_OK)
    if (!existsSync(stateDir)) return { check, verdict: 'ok', found: `${stateDir} will be made` }
    const mode = statSync(stateDir).mode & 0o777
    if (process.platform !== 'win32' && (mode & 0o077) !== 0) {
      return {
        check,
        verdict: 'problem',
        found: `${stateDir} is open to others (mode ${mode.toString(8)})`,
        fix: `chmod 700 ${stateDir}`,
      }
    }
    const keys = readKeys(stateDir)
    const aside = readdirSync(stateDir).filter(name => /\.damaged-\d+$/.test(name))
    if (aside.length > 0) {
      const found = `${stateDir}: ${aside.length} files were damaged and set aside: ${aside.slice(0, 3).join(', ')}`
      return { check, verdict: 'warning', found, fix: 'check the disk; remove them when nobody needs them any more' }
    }
    return { check, verdict: 'ok', found: `${stateDir}, ${keys === undefined ? 'no keys yet' : 'keys are sound'}` }
  } catch (error) {
    const fix = error instanceof HopliteError ? error.advice : 'choose another with --state-dir, or make it writable'
    return { check, verdict: 'problem', found: (error as Error).message, fix }
  }
}

function nearestParent(directory: string): string {
  const parent = path.dirname(directory)
  return existsSync(parent) || parent === directory ? parent : nearestParent(parent)
}

async function checkUdp(): Promise<Finding> {
  const failed = (type: 'udp4' | 'udp6') =>
    new Promise<string | undefined>(resolve => {
      const socket = createSocket({ type, ipv6Only: type === 'udp6' })
      socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code))
      socket.bind(0, () => socket.close(() => resolve(undefined)))
    })
  const [v4, v6] = await Promise.all([failed('udp4'), failed('udp6')])
  if (v4 !== undefined)
    return {
      check: 'UDP',
      verdict: 'problem',
      found: `a socket cannot be bound: ${v4}`,
      fix: 'allow UDP sockets for this user or container',
    }
  return { check: 'UDP', verdict: 'ok', found: v6 === undefined ? 'IPv4 and IPv6' : 'IPv4 only' }
}

function checkBuffers(): Finding[] {
  if (process.platform !== 'linux') return []
  return ['rmem_max', 'wmem_max'].map(name => {
    const value = Number(readText(`/proc/sys/net/core/${name}`))
    const check = `net.core.${name}`
    if (value >= WANTED_BUFFER) return { check, verdict: 'ok', found: `${value} bytes` }
    return {
      check,
      verdict: 'warning',
      found: `${value} bytes: bursts will be lost`,
      fix: `sudo sysctl -w net.core.${name}=${WANTED_BUFFER}`,
    }
  })
}

function checkTun(): Finding {
  const check = 'TUN'
  if (process.platform !== 'linux')
    return { check, verdict: 'warning', found: 'not used on this platform yet', fix: 'use the proxy' }
  if (!existsSync('/dev/net/tun'))
    return {
      check,
      verdict: 'warning',
      found: '/dev/net/tun is missing: only the proxy works',
      fix: 'sudo modprobe tun',
    }
  return { check, verdict: 'ok', found: '/dev/net/tun is there' }
}

async function checkBootstrap(config: Config): Promise<Finding[]> {
  const { bootstrap } = config.network
  if (bootstrap.length === 0) {
    return [
      {
        check: 'bootstrap',
        verdict: 'warning',
        found: 'none configured: no relay can be found',
        fix: 'set bootstrap in [network] of hoplite.toml',
      },
    ]
  }
  return Promise.all(
    bootstrap.map(async (address): Promise<Finding> => {
      const [, , host = '', , port] = address.split('/')
      const code = await dial(host, Number(port))
      const check = `bootstrap ${host}`
      if (code === undefined) return { check, verdict: 'ok', found: 'answers' }
      return {
        check,
        verdict: 'warning',
        found: `does not answer: ${code}`,
        fix: 'check the network, or name another bootstrap node',
      }
    }),
  )
}

function dial(host: string, port: number): Promise<string | undefined> {
  return new Promise(resolve => {
    const socket = connect({ host, port, timeout: DIAL_MS })
    const settle = (code?: string) => {
      socket.destroy()
      resolve(code)
    }
    socket.once('connect', () => settle())
    socket.once('timeout', () => settle('ETIMEDOUT'))
    socket.once('error', (error: NodeJS.ErrnoException) => settle(error.code ?? error.message))
  })
}

async function checkDaemon(stateDir: string): Promise<Finding> {
  const check = 'daemon'
  try {
    const { role, state, problem, advice, user, interface: name } = await callAction(socketPath(stateDir), 'status', {})
    if (problem === undefined && user === 0 && name !== undefined) {
      const fix = 'start it with: hoplite up --tun, entry, or relay --exit --tun'
      return { check, verdict: 'warning', found: `${role}, ${state}; it has a tunnel and is root`, fix }
    }
    if (problem === undefined) return { check, verdict: 'ok', found: `${role}, ${state}` }
    return {
      check,
      verdict: 'warning',
      found: `${role}, ${state}: ${problem}`,
      ...(advice !== undefined && { fix: advice }),
    }
  } catch {
    return { check, verdict: 'ok', found: 'does not run' }
  }
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8').trim()
  } catch {
    return ''
  }
}
