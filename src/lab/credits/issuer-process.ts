// An issuer as an operator runs it: `hoplite issuer` in a process of its own, and the command line for everything else.

import { execFile, fork } from 'node:child_process'
import { mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { siblingModule } from '#platform/module-url.ts'
import { waitFor } from '../testnet.ts'

const MAIN = fileURLToPath(siblingModule(import.meta.url, '../../cli/main'))
const run = promisify(execFile)

export interface IssuerProcess {
  readonly url: string
  readonly id: string
  readonly stateDir: string
  readonly log: () => string
  /** Runs `hoplite issuer admin …` and reads its JSON. */
  admin(...args: string[]): Promise<Record<string, unknown>>
  stop(signal?: NodeJS.Signals): Promise<void>
}

/** Starts an issuer below `directory`, and waits until it answers. `lines` go into its `[issuer]`. */
export async function startIssuerProcess(directory: string, lines: readonly string[] = []): Promise<IssuerProcess> {
  const stateDir = path.join(directory, 'issuer')
  const config = path.join(directory, 'issuer.toml')
  mkdirSync(stateDir, { recursive: true, mode: 0o700 })
  writeFileSync(config, ['[issuer]', 'listen = "127.0.0.1:0"', ...lines, ''].join('\n'))
  const common = ['--config', config, '--state-dir', stateDir]
  const child = fork(MAIN, ['issuer', ...common], { stdio: ['ignore', 'pipe', 'pipe', 'ipc'], silent: true })
  let log = ''
  for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk: Buffer) => (log += chunk.toString()))
  const url = await waitFor(async () => {
    if (child.exitCode !== null) throw new Error(`the issuer ended: ${log}`)
    return /http:\/\/127\.0\.0\.1:[0-9]+/.exec(log)?.[0]
  }, 'the issuer')
  const admin = async (...args: string[]) => hoplite('issuer', 'admin', ...args, ...common, '--json')
  const { id } = await admin('id')
  return {
    ...{ url, id: String(id), stateDir, admin, log: () => log },
    async stop(signal = 'SIGTERM') {
      if (child.exitCode !== null || child.signalCode !== null) return
      const gone = new Promise(resolve => child.once('exit', resolve))
      child.kill(signal)
      await gone
    },
  }
}

/** Runs a command of ours and reads the JSON that it prints. Rejects with what it said when it fails. */
export async function hoplite(...args: string[]): Promise<Record<string, unknown>> {
  const { stdout } = await run(process.execPath, [MAIN, ...args], { maxBuffer: 64 * 2 ** 20 })
  return JSON.parse(stdout.trim().split('\n').at(-1) ?? '{}') as Record<string, unknown>
}
