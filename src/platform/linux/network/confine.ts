// One command in a network of its own, without root: a network namespace in which there is nothing but loopback and a TUN.
//
//   confine ── unshare (user, network and mount namespaces, as their root) ── confine-entry.ts
//                   makes the TUN, sets addresses, routes and DNS, hands the descriptor over, waits for the word,
//                   and becomes: unshare (user namespace, as the user again) ── COMMAND
//
// The command has no rights over its namespaces, so it cannot get out of them; when the descriptor is closed, or its holder
// dies, it has no network at all. Resolvers that answer over Unix sockets (systemd-resolved, nscd, Avahi) would ask outside,
// so their directories are covered.
//
// The entry hands two descriptors over: the TUN, and a socket by which this process changes its MTU while the command runs.

import { spawn } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import type { Socket } from 'node:net'
import { constants, tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { type ErrorCode, HopliteError } from '#api/errors.ts'
import type { TunOffload } from '#forward/commands.ts'
import { siblingModule } from '../../module-url.ts'
import { openInbox } from '../descriptors.ts'
import { fileCalls } from '../libc.ts'
import { setLinkMtu } from './link-control.ts'
import { familyOf, parseInterface } from './networks.ts'

export interface ConfineOptions {
  readonly command: string
  readonly args: readonly string[]
  /** Addresses of the servers that names are asked of. */
  readonly dns: readonly string[]
  /** The TUN's addresses with prefix lengths; a family without one has no network. */
  readonly addresses: readonly string[]
  /** Bytes. */
  readonly mtu: number
  /** As `openTun` takes it. */
  readonly offload: boolean
  /** The command's environment; default: this process's. */
  readonly env?: NodeJS.ProcessEnv
  /** Gets the TUN, which is up, before the command runs; it owns the descriptor and closes it afterwards. */
  readonly onTun: (tun: ConfinedTun) => void | Promise<void>
}

export interface ConfinedTun {
  readonly fd: number
  readonly offload: TunOffload
  /** Sets its MTU in bytes, until the command has ended. Throws CHANGE_FAILED. */
  resize(mtu: number): void
}

/** What the entry is told, in its arguments. */
export type EntryOrder = Pick<ConfineOptions, 'command' | 'args' | 'dns' | 'addresses' | 'mtu' | 'offload'> & {
  readonly inbox: string
  readonly resolvConf: string
  readonly uid: number
  readonly gid: number
}

/** What it says on its fourth descriptor, one line. */
export type EntryReport =
  | { readonly kind: 'ready' }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string; readonly advice: string }

/** The interface's name, inside. */
export const CONFINED_TUN = 'hoplite0'
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const
const CHANNEL = 3
/** One byte: what the entry would leave unread resets the channel. */
const GO = '!'

/**
 * Runs a command with this process's input and outputs; signals are passed on. Gives its exit code: 127 when there is no
 * such command, 128 and the signal's number when one ended it. Throws NOT_PERMITTED, TUN_UNAVAILABLE, PROGRAM_MISSING or
 * CHANGE_FAILED when the confinement cannot be made, or what `onTun` threw: the command has then not run.
 */
export async function confine({ env = process.env, onTun, ...options }: ConfineOptions): Promise<number> {
  options.dns.forEach(familyOf)
  options.addresses.forEach(parseInterface)
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-run-'))
  const inbox = openInbox(path.join(directory, 'tun'))
  let control: number | undefined
  try {
    const order: EntryOrder = {
      ...options,
      inbox: path.join(directory, 'tun'),
      resolvConf: path.join(directory, 'resolv.conf'),
      uid: process.getuid?.() ?? 0,
      gid: process.getgid?.() ?? 0,
    }
    const entry = fileURLToPath(siblingModule(import.meta.url, './confine-entry'))
    const inside = [process.execPath, '--no-warnings', entry, JSON.stringify(order)]
    const words = ['--user', '--map-root-user', '--net', '--mount', '--', ...inside]
    const child = spawn('unshare', words, { stdio: ['inherit', 'inherit', 'inherit', 'pipe'], env })
    const ended = new Promise<number>((resolve, reject) => {
      child.once('error', error => reject(notStarted(error)))
      child.once('exit', (code, signal) => resolve(code ?? 128 + constants.signals[signal ?? 'SIGKILL']))
    })
    const forgetSignals = passSignals(child)
    try {
      const channel = child.stdio[CHANNEL] as Socket
      const report = await Promise.race([firstReport(channel), ended.then(() => undefined)])
      const [tun, link] = [inbox.take(), inbox.take()]
      control = link?.fd
      if (report?.kind !== 'ready' || tun === undefined || link === undefined) {
        if (tun !== undefined) fileCalls().close(tun.fd)
        throw notConfined(report, await ended)
      }
      const resize = (mtu: number) => {
        if (control !== undefined) setLinkMtu(control, CONFINED_TUN, mtu)
      }
      try {
        await onTun({ fd: tun.fd, offload: tun.note as TunOffload, resize })
      } catch (error) {
        child.kill('SIGKILL')
        await ended
        throw error
      }
      channel.end(GO)
      return await ended
    } finally {
      forgetSignals()
    }
  } finally {
    if (control !== undefined) fileCalls().close(control)
    control = undefined
    inbox.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** The line that the entry says; `undefined` when it ends without one. */
function firstReport(channel: Socket): Promise<EntryReport | undefined> {
  return new Promise(resolve => {
    let said = ''
    channel.setEncoding('utf8').on('data', text => {
      said += text
      if (said.endsWith('\n')) resolve(JSON.parse(said))
    })
    channel.on('error', () => resolve(undefined)).on('close', () => resolve(undefined))
  })
}

function passSignals(child: { kill(signal: NodeJS.Signals): boolean }): () => void {
  const handlers = SIGNALS.map(signal => {
    const pass = () => {
      // The terminal has told the command already.
      const isFromTerminal = (signal === 'SIGINT' || signal === 'SIGQUIT') && isInForeground()
      if (!isFromTerminal) child.kill(signal)
    }
    process.on(signal, pass)
    return { signal, pass }
  })
  return () => {
    for (const { signal, pass } of handlers) process.off(signal, pass)
  }
}

/** proc(5): after the name in parentheses come state, ppid, pgrp, session, tty_nr, tpgid. */
function isInForeground(): boolean {
  const fields = readFileSync('/proc/self/stat', 'latin1').split(') ').at(-1)?.split(' ') ?? []
  return fields[4] !== '0' && fields[5] === fields[2]
}

function notStarted(error: Error): HopliteError {
  const advice = 'install util-linux'
  return new HopliteError('PROGRAM_MISSING', `run unshare: ${error.message}`, advice, error)
}

function notConfined(report: EntryReport | undefined, code: number): HopliteError {
  if (report?.kind === 'failed') return new HopliteError(report.code, report.message, report.advice)
  return new HopliteError(
    'NOT_PERMITTED',
    `make a network namespace without root: unshare ended with ${code}`,
    'allow user namespaces: sysctl -w user.max_user_namespaces=10000 and, on Ubuntu, kernel.apparmor_restrict_unprivileged_userns=0',
  )
}
