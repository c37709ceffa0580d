// What `hoplite doctor --bundle` writes: enough to look for a bug with, and nothing that says whose machine it is. It is made of
// what is known to be harmless (numbers, flags, words of a fixed list), not by striking out what is known to be harmful.

import { closeSync, openSync, readSync, statSync } from 'node:fs'
import { availableParallelism, release, totalmem } from 'node:os'
import type { Status } from '#api/table.ts'
import { type Config, defaultConfig } from '#daemon/config.ts'
import { VERSION } from '#daemon/version.ts'
import type { Finding } from './commands/doctor.ts'

const MAX_LOG_BYTES = 256 * 1024
const MAX_LINES = 500
/** Checks that find versions, sizes and yes or no, never a name, a path or an address. */
const IMPERSONAL =
  /^(runtime|node:ffi|sodium-native|udx-native|UDP|net\.core\.\w+|TUN|CAP_NET_ADMIN|nft|namespaces|open files|disk)$/
/** A field of a log line that is text is left out, but for these, in our own plain words. */
const WORDED = ['reason', 'what']
const PLAIN_WORDS = /^[a-z][a-z ]{0,40}$/

export interface Report {
  readonly version: string
  readonly system: Readonly<Record<string, string | number>>
  readonly findings: readonly { readonly check: string; readonly verdict: string; readonly found?: string }[]
  /** Keys that are not as by default: numbers, flags and choices as they are, of texts and lists how long they are. */
  readonly configuration: Readonly<Record<string, unknown>>
  readonly status?: Readonly<Record<string, unknown>>
  readonly log: readonly Readonly<Record<string, unknown>>[]
}

/** Makes the report. `logFile` need not exist. */
export function makeReport(
  findings: readonly Finding[],
  config: Config,
  status: Status | undefined,
  logFile: string,
): Report {
  return {
    version: VERSION,
    system: {
      node: process.versions.node,
      platform: process.platform,
      arch: process.arch,
      // A kernel that somebody built himself may have his name in it.
      kernel: /^[\d.]+/.exec(release())?.[0] ?? '',
      cpus: availableParallelism(),
      memoryMib: Math.round(totalmem() / 2 ** 20),
    },
    findings: findings.map(({ check, verdict, found }) =>
      IMPERSONAL.test(check) ? { check, verdict, found } : { check: check.split(' ')[0] ?? '', verdict },
    ),
    configuration: changedKeys(config),
    ...(status !== undefined && { status: harmless(status) }),
    log: lastLines(logFile).flatMap(logLine),
  }
}

function changedKeys(config: Config): Record<string, unknown> {
  const standard = defaultConfig() as unknown as Record<string, Record<string, unknown>>
  const changed: Record<string, unknown> = {}
  for (const [section, values] of Object.entries(config)) {
    for (const [key, value] of Object.entries(values as Record<string, unknown>)) {
      if (JSON.stringify(value) === JSON.stringify(standard[section]?.[key])) continue
      const isChoice = `${section}.${key}` === 'engine.kind' || `${section}.${key}` === 'log.level'
      const isText = typeof value === 'string' && !isChoice
      changed[`${section}.${key}`] = isText || Array.isArray(value) ? `length ${value.length}` : value
    }
  }
  return changed
}

function harmless(status: Status): Record<string, unknown> {
  const { role, state, version, uptimeMs, directory, sessions, flows, streams, counters, memoryBytes } = status
  return {
    ...{ role, state, version, uptimeMs, directory, sessions, flows, streams, memoryBytes },
    limits: status.limits?.map(({ name }) => name) ?? [],
    counters: Object.fromEntries(Object.entries(counters).filter(([, count]) => count > 0)),
    routes: status.routes.map(({ state, hops, spare, rttMs, streams }) => ({
      ...{ state, hops: hops.length, hasSpare: spare !== undefined, streams },
      ...(rttMs !== undefined && { rttMs }),
    })),
  }
}

function logLine(line: string): Record<string, unknown>[] {
  try {
    const { time, level, component, event, ...fields } = JSON.parse(line) as Record<string, unknown>
    if (typeof event !== 'string') return []
    const kept = Object.entries(fields).filter(
      ([name, value]) => typeof value !== 'string' || (WORDED.includes(name) && PLAIN_WORDS.test(value)),
    )
    return [{ time, level, component, event, ...Object.fromEntries(kept) }]
  } catch {
    return []
  }
}

function lastLines(file: string): string[] {
  const size = statSync(file, { throwIfNoEntry: false })?.size ?? 0
  if (size === 0) return []
  const handle = openSync(file, 'r')
  try {
    const buffer = Buffer.alloc(Math.min(size, MAX_LOG_BYTES))
    const length = readSync(handle, buffer, 0, buffer.length, size - buffer.length)
    return buffer.toString('utf8', 0, length).split('\n').slice(-MAX_LINES)
  } finally {
    closeSync(handle)
  }
}
