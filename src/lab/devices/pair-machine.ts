// Machines of the scenarios of pairing: each behind a router, with a daemon of its own that commands start.

import type { ChildProcess } from 'node:child_process'
import { readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import type { Home } from '../nat/home.ts'
import type { Host } from '../netns.ts'

export const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
export const MEETING = '20.0.0.8'
export const LINES_PORT = 4_022
export const IPERF_PORT = 5_201
export const SSH_PORT = 4_023
const REACHED_MS = 30_000
const ECHO_MS = 300
const ASK_AGAIN_MS = 20

export type Promised = (text: string, held: boolean) => void

export interface Machine {
  readonly name: string
  readonly home: Home
  readonly stateDir: string
  readonly flags: readonly string[]
}

export interface MachineOptions {
  readonly name: string
  readonly home: Home
  /** More lines of `[meet]`, and whole sections. */
  readonly meet: readonly string[]
  readonly more?: readonly string[]
}

/** Writes a machine's configuration; its daemon starts with the first command. */
export function setUp(folder: string, { name, home, meet, more = [] }: MachineOptions): Machine {
  const config = path.join(folder, `${name}.toml`)
  const rule = (protocol: string, port: number) =>
    `  { device = "*", protocol = "${protocol}", from_port = ${port}, to_port = ${port} },`
  const lines = [
    '[client]',
    'proxy = "127.0.0.1:0"',
    ...more,
    '[meet]',
    `name = "${name}"`,
    `rendezvous = ["ws://${MEETING}:443"]`,
    'interval_ms = 250',
    'work_bits = 8',
    'udp_port = 41000',
    ...meet,
    'allow = [',
    rule('tcp', IPERF_PORT),
    rule('tcp', LINES_PORT),
    rule('tcp', SSH_PORT),
    rule('udp', LINES_PORT),
    ']',
  ]
  writeFileSync(config, `${lines.join('\n')}\n`)
  const stateDir = path.join(folder, name)
  return { name, home, stateDir, flags: ['--config', config, '--state-dir', stateDir] }
}

export async function pairThem(tower: Machine, laptop: Machine, promise: Promised): Promise<number> {
  const { code, ended } = await showCode(tower)
  const began = performance.now()
  const joined = json(await hoplite(laptop, 'join', code, '--json'))
  const ms = Math.round(performance.now() - began)
  const shown = json((await ended).trim().split('\n').at(-1) ?? '')
  promise('both show the same four words', JSON.stringify(joined['words']) === JSON.stringify(shown['words']))
  return ms
}

export async function startMeeting(host: Host, folder: string): Promise<void> {
  const config = path.join(folder, 'meeting.toml')
  writeFileSync(config, `[meet]\nlisten = "${MEETING}:443"\nwork_bits = 8\n`)
  const flags = ['--config', config, '--state-dir', path.join(folder, 'meeting')]
  const child = host.start(process.execPath, [MAIN, 'rendezvous', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] })
  await new Promise(resolve => child.stderr?.once('data', resolve))
}

export function hoplite({ home, flags }: Machine, ...words: string[]): Promise<string> {
  return home.host.run(process.execPath, '--no-warnings', MAIN, ...words, ...flags)
}

/** What a command that must fail says. */
export function refusal(machine: Machine, ...words: string[]): Promise<string> {
  return hoplite(machine, ...words).then(
    () => 'it did not fail',
    (error: { stdout?: string }) => error.stdout ?? '',
  )
}

/** Runs `hoplite pair`; the code it shows, and all that it prints until it ends. */
export async function showCode({
  home,
  flags,
}: Machine): Promise<{ readonly code: string; readonly ended: Promise<string> }> {
  const words = ['--no-warnings', MAIN, 'pair', '--json', ...flags]
  const child = home.host.start(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  const first = new Promise<string>(resolve => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', line => {
      lines.push(line)
      resolve(line)
    })
  })
  const ended = new Promise<string>(resolve => child.once('close', () => resolve(lines.join('\n'))))
  return { code: String(json(await first)['code']), ended }
}

/**
 * How long until packets take a way of that kind, and its round trip; -1 when they do not. The daemon is asked itself: a command takes
 * longer to start than many a way to be found.
 */
export async function untilPath(
  machine: Machine,
  device: string,
  kind: 'direct' | 'relayed',
): Promise<{ readonly ms: number; readonly rttMs: number }> {
  const began = performance.now()
  while (performance.now() - began < REACHED_MS) {
    const echo = await askEcho(machine, device)
    const ms = Math.round(performance.now() - began)
    if (echo?.path !== kind) continue
    // The first may have waited for the session.
    const again = await askEcho(machine, device)
    return { ms, rttMs: Number(Math.min(echo.rttMs, again?.rttMs ?? echo.rttMs).toFixed(1)) }
  }
  return { ms: -1, rttMs: -1 }
}

/** An echo through the tunnel, where one comes back soon. Starts the daemon where there is none. */
async function askEcho(
  machine: Machine,
  device: string,
): Promise<{ readonly path: string; readonly rttMs: number } | undefined> {
  const socket = socketPath(machine.stateDir)
  const isUp = await callAction(socket, 'status', {}).then(
    () => true,
    () => false,
  )
  if (!isUp) await hoplite(machine, 'ping', device, '--count', '1').catch(() => undefined)
  const asked = callAction(socket, 'device.ping', { device }).catch(() => undefined)
  const late = new Promise<undefined>(resolve => setTimeout(() => resolve(undefined), ECHO_MS))
  const echo = await Promise.race([asked, late])
  if (echo?.path !== undefined && echo.rttMs !== undefined) return { path: echo.path, rttMs: echo.rttMs }
  await new Promise(resolve => setTimeout(resolve, ASK_AGAIN_MS))
  return undefined
}

/** What a machine's daemon has used of processors, in seconds: fields 14 and 15 of its line (proc(5)), in hundredths. */
export async function cpuSeconds({ stateDir }: Machine): Promise<number> {
  const { pid } = await callAction(socketPath(stateDir), 'status', {})
  const fields = readFileSync(`/proc/${pid}/stat`, 'latin1').split(') ').at(-1)?.split(' ') ?? []
  return (Number(fields[11]) + Number(fields[12])) / 100
}

export function json(text: string): Record<string, unknown> {
  return JSON.parse(text) as Record<string, unknown>
}

export function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', () => reject(new Error('a program of the laboratory did not start')))
  })
}
