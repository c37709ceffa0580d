// `hoplite install-service`: the node runs from now on and after every start of the machine. Root installs for the whole
// system, anybody else for himself.

import { spawnSync } from 'node:child_process'
import { chmodSync, existsSync, mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import path from 'node:path'
import { isSea } from 'node:sea'
import { fileURLToPath } from 'node:url'
import { HopliteError } from '#api/errors.ts'
import { type MachineFlags, machineWords, planMachine } from '#daemon/client/machine-plan.ts'
import { loadConfig } from '#daemon/config.ts'
import { siblingModule } from '#platform/module-url.ts'
import { configFile, stateDirectory } from '#platform/state/directories.ts'
import { print } from '../output.ts'
import { launchdJob, type Service, type ServiceRole, serviceName, systemdUnit } from '../service-units.ts'

const TOOL_MS = 30_000
const SYSTEM_CONFIG = '/etc/hoplite/hoplite.toml'

export interface InstallOptions extends Partial<MachineFlags> {
  config?: string
  stateDir?: string
  json?: boolean
  exit?: boolean
  tun?: boolean
  /** Print the file and install nothing. */
  print?: boolean
  remove?: boolean
}

interface Step {
  readonly program: string
  readonly words: readonly string[]
}

/** Installs and starts the service of a role, or removes it. Throws NOT_PERMITTED, PROGRAM_MISSING, DAEMON_FAILED. */
export function installService(role: ServiceRole, options: InstallOptions): void {
  const service = describe(role, options)
  const file = fileOf(service)
  const text = process.platform === 'darwin' ? launchdJob(service) : systemdUnit(service)
  if (options.print) {
    process.stdout.write(text)
    return
  }
  if (process.platform === 'win32')
    throw new HopliteError('PROGRAM_MISSING', 'install a service: Windows is not served yet', 'use: hoplite up')
  if (options.remove) {
    const isThere = existsSync(file)
    if (isThere) stopping(service, file).forEach(perform)
    rmSync(file, { force: true })
    print(options.json, { ok: true, file, removed: isThere }, isThere ? `Removed ${file}.` : `There is no ${file}.`)
    return
  }
  assertReadable(service)
  if (service.config !== undefined) loadConfig(service.config)
  write(file, text)
  starting(service, file).forEach(perform)
  print(options.json, { ok: true, file, stateDir: service.stateDir }, `Installed ${file}; it runs.\n${advice(service)}`)
}

function describe(role: ServiceRole, options: InstallOptions): Service {
  const { config, stateDir, exit, tun } = options
  const isSystem = process.getuid?.() === 0
  assertTunnel(role, options, isSystem)
  const found = configFile(config) ?? (isSystem && existsSync(SYSTEM_CONFIG) ? SYSTEM_CONFIG : undefined)
  const isSystemd = process.platform !== 'darwin'
  return {
    role,
    scope: isSystem ? 'system' : 'user',
    command: ownCommand(),
    stateDir: isSystem && isSystemd ? `/var/lib/${serviceName(role)}` : stateDirectory(stateDir),
    ...(found !== undefined && { config: found }),
    ...(role === 'relay' && exit !== undefined && { exit }),
    ...(tun && { tun }),
    ...(tun && role === 'client' && { words: machineWords(planMachine({ killSwitch: true, ...options })) }),
  }
}

/** A tunnel is a client's or an exit's, on Linux, and root makes it. */
function assertTunnel(role: ServiceRole, { tun, exit, print }: InstallOptions, isSystem: boolean): void {
  if (!tun) return
  const isOne = role === 'client' || (role === 'relay' && exit)
  if (!isOne) throw new HopliteError('REQUEST_INVALID', `start a tunnel: a ${role} has none`, 'add --exit to a relay')
  if (process.platform === 'linux' && (isSystem || print)) return
  throw new HopliteError('NOT_PERMITTED', 'install a service with a tunnel: only root can, on Linux', 'use sudo')
}

function ownCommand(): string[] {
  const main = fileURLToPath(siblingModule(import.meta.url, '../main'))
  return isSea() ? [process.execPath] : [process.execPath, ...process.execArgv, main]
}

function fileOf({ role, scope }: Service): string {
  if (process.platform === 'darwin') {
    const folder = scope === 'system' ? '/Library/LaunchDaemons' : path.join(homedir(), 'Library', 'LaunchAgents')
    return path.join(folder, `org.hoplite.${role}.plist`)
  }
  const own = process.env['XDG_CONFIG_HOME'] ?? path.join(homedir(), '.config')
  const folder = scope === 'system' ? '/etc/systemd/system' : path.join(own, 'systemd', 'user')
  return path.join(folder, `${serviceName(role)}.service`)
}

function starting(service: Service, file: string): Step[] {
  if (process.platform === 'darwin') return [{ program: 'launchctl', words: ['load', '-w', file] }]
  const user = service.scope === 'user' ? ['--user'] : []
  return [
    { program: 'systemctl', words: [...user, 'daemon-reload'] },
    { program: 'systemctl', words: [...user, 'enable', '--now', serviceName(service.role)] },
  ]
}

function stopping(service: Service, file: string): Step[] {
  if (process.platform === 'darwin') return [{ program: 'launchctl', words: ['unload', '-w', file] }]
  const user = service.scope === 'user' ? ['--user'] : []
  return [{ program: 'systemctl', words: [...user, 'disable', '--now', serviceName(service.role)] }]
}

function perform({ program, words }: Step): void {
  const { error, status, stderr } = spawnSync(program, words, { encoding: 'utf8', timeout: TOOL_MS })
  const line = `${program} ${words.join(' ')}`
  if ((error as NodeJS.ErrnoException | undefined)?.code === 'ENOENT')
    throw new HopliteError('PROGRAM_MISSING', `${line}: it is not installed`, 'see the file with --print')
  if (status !== 0)
    throw new HopliteError('DAEMON_FAILED', `${line}: ${stderr.trim().split('\n').at(-1)}`, 'see the file with --print')
}

/** A system service runs as nobody in particular, who sees no home. */
function assertReadable({ scope, command }: Service): void {
  const hidden = isSea() ? process.execPath : command.find(word => /^\/(root|home)\//.test(word))
  if (process.platform === 'darwin' || scope === 'user' || hidden === undefined) return
  const advice = 'install the Debian package, or the npm package with: npm install --global'
  throw new HopliteError(
    'NOT_PERMITTED',
    `install a service of the system: it may not read what ${hidden} is made of`,
    advice,
  )
}

function write(file: string, text: string): void {
  try {
    mkdirSync(path.dirname(file), { recursive: true })
    writeFileSync(file, text)
    chmodSync(file, 0o644)
  } catch (error) {
    const found = `write ${file}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('NOT_PERMITTED', found, 'check who owns the folder', error)
  }
}

function advice({ scope, role, stateDir }: Service): string {
  if (process.platform === 'darwin') return 'hoplite status'
  if (scope === 'user') return `hoplite status; journalctl --user -u ${serviceName(role)}`
  return `hoplite status --state-dir ${stateDir}; journalctl -u ${serviceName(role)}`
}
