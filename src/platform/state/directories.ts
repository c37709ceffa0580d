// Where things are kept, by the platform's custom (XDG on Linux), unless the environment or a flag says otherwise.

import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import envPaths from 'env-paths'

/** Keys, state and the control socket: `HOPLITE_STATE_DIR`, or the platform's data directory. */
export function stateDirectory(given?: string): string {
  return path.resolve(given ?? process.env['HOPLITE_STATE_DIR'] ?? envPaths('hoplite', { suffix: '' }).data)
}

/** The configuration file: as given, or the platform's usual one when it exists. */
export function configFile(given?: string): string | undefined {
  const named = given ?? process.env['HOPLITE_CONFIG']
  if (named !== undefined) return path.resolve(named)
  const usual = usualConfigFile()
  return existsSync(usual) ? usual : undefined
}

/** Where the configuration file is looked for when nobody names one. */
export function usualConfigFile(): string {
  return path.join(envPaths('hoplite', { suffix: '' }).config, 'hoplite.toml')
}

/** The control socket of the daemon with this state directory. */
export function socketPath(stateDir: string): string {
  const digest = createHash('sha256').update(stateDir).digest('hex').slice(0, 32)
  if (process.platform === 'win32') return `\\\\.\\pipe\\hoplite-${digest}`
  const inState = path.join(stateDir, 'control.sock')
  // A Unix socket's path holds 107 bytes, on some systems 103.
  return Buffer.byteLength(inState) <= 100 ? inState : path.join(tmpdir(), `hoplite-${digest}.sock`)
}
