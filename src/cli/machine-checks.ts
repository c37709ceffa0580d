// What `hoplite doctor` asks the machine: what the faster data plane, the tunnel and the laboratory need. All of them are
// warnings at most, but for the clock: the proxy works without.

import { spawnSync } from 'node:child_process'
import { readFileSync, statfsSync, statSync } from 'node:fs'
import { hasProgram } from '#platform/linux/programs.ts'
import type { Finding } from './commands/doctor.ts'

/** Bit of CAP_NET_ADMIN in the effective set (capabilities(7)). */
const CAP_NET_ADMIN = 12n
const TOOL_MS = 3_000
const WANTED_FILES = 4_096
const WANTED_DISK = 64 * 2 ** 20

/** node:ffi, which the batching engine calls the system with. */
export async function checkForeignFunctions(): Promise<Finding> {
  const check = 'node:ffi'
  try {
    const name = 'node:ffi'
    await import(name)
    return { check, verdict: 'ok', found: 'there' }
  } catch {
    const fix = 'start it with: hoplite (not with another Node)'
    return { check, verdict: 'warning', found: 'missing: only the portable engine works', fix }
  }
}

/** Whether this process may make tunnels and routes. */
export function checkPrivileges(): Finding[] {
  if (process.platform !== 'linux') return []
  const check = 'CAP_NET_ADMIN'
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readText('/proc/self/status'))?.[1] ?? '0'
  if ((BigInt(`0x${effective}`) >> CAP_NET_ADMIN) & 1n) return [{ check, verdict: 'ok', found: 'granted' }]
  const found = 'not granted: no tunnel, only the proxy'
  return [{ check, verdict: 'warning', found, fix: 'run it as root, or grant it to the service' }]
}

/** setpriv and unshare, by which a node with a tunnel gives up what root may. */
export function checkPrivilegeTools(): Finding[] {
  if (process.platform !== 'linux') return []
  const check = 'setpriv'
  if (hasProgram('setpriv') && hasProgram('unshare')) return [{ check, verdict: 'ok', found: 'there' }]
  const found = 'missing: a node with a tunnel could not give up what root may'
  return [{ check, verdict: 'warning', found, fix: 'sudo apt-get install util-linux' }]
}

/** nft, which closes the leaks around a tunnel. */
export function checkFirewall(): Finding[] {
  if (process.platform !== 'linux') return []
  const check = 'nft'
  if (runs('nft', ['--version'])) return [{ check, verdict: 'ok', found: 'there' }]
  const found = 'missing: a tunnel could not be closed against leaks'
  return [{ check, verdict: 'warning', found, fix: 'sudo apt-get install nftables' }]
}

/** User and network namespaces, which the laboratory builds its networks of. */
export function checkNamespaces(): Finding[] {
  if (process.platform !== 'linux') return []
  const check = 'namespaces'
  if (runs('unshare', ['--user', '--map-root-user', '--net', 'true']))
    return [{ check, verdict: 'ok', found: 'user and network namespaces can be made' }]
  const found = 'cannot be made: laboratories that need them are skipped'
  const fix = 'sudo sysctl -w kernel.unprivileged_userns_clone=1 user.max_user_namespaces=10000'
  return [{ check, verdict: 'warning', found, fix }]
}

/** Each connection of the proxy and each flow of a relay has one. */
export function checkOpenFiles(): Finding[] {
  const limit = /^Max open files\s+(\d+)\s+(\d+)/m.exec(readText('/proc/self/limits'))?.[2]
  if (limit === undefined) return []
  const check = 'open files'
  if (Number(limit) >= WANTED_FILES) return [{ check, verdict: 'ok', found: `at most ${limit}` }]
  const found = `at most ${limit}: a busy relay, or many connections at once, need more`
  return [{ check, verdict: 'warning', found, fix: 'ulimit -n 65536, or LimitNOFILE=65536 in a service' }]
}

/** What a node keeps is little, but for its log and its wallet. */
export function checkDisk(directory: string): Finding[] {
  try {
    const { bavail, bsize } = statfsSync(directory)
    const check = 'disk'
    const found = `${Math.floor((bavail * bsize) / 2 ** 20)} MiB left where the state is`
    if (bavail * bsize >= WANTED_DISK) return [{ check, verdict: 'ok', found }]
    return [{ check, verdict: 'warning', found, fix: 'make room, or choose another place with --state-dir' }]
  } catch {
    return []
  }
}

/** Descriptors expire: a clock before the day this program was installed refuses every relay. */
export function checkClock(nowMs: number = Date.now()): Finding {
  const check = 'clock'
  const installedMs = statSync(new URL('../../package.json', import.meta.url)).ctimeMs
  const now = new Date(nowMs).toISOString()
  if (nowMs >= installedMs - 60_000) return { check, verdict: 'ok', found: now }
  const found = `${now} is before this program was installed: every relay will look wrong`
  return { check, verdict: 'problem', found, fix: 'set the clock, for example: sudo timedatectl set-ntp true' }
}

function runs(command: string, args: string[]): boolean {
  return spawnSync(command, args, { stdio: 'ignore', timeout: TOOL_MS }).status === 0
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch {
    return ''
  }
}
