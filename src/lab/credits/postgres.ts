// A PostgreSQL of our own: a cluster in a temporary directory, on a Unix socket only, by a user without privileges.

import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { hasTool } from '../skip.ts'

const START_MS = 120_000

export interface PostgresCluster {
  /** The URL of a new, empty database. */
  database(): string
  stop(): Promise<void>
}

/** Where PostgreSQL's programs are; Debian keeps them out of the path. */
export function postgresPrograms(): string | undefined {
  const debian = '/usr/lib/postgresql'
  const versions = existsSync(debian) ? readdirSync(debian).sort((a, b) => Number(b) - Number(a)) : []
  const found = versions
    .map(version => path.join(debian, version, 'bin'))
    .find(dir => existsSync(path.join(dir, 'initdb')))
  return found ?? (hasTool('initdb') && hasTool('postgres') ? '' : undefined)
}

/** Starts a cluster; takes about two seconds. */
export async function startPostgres(programs: string): Promise<PostgresCluster> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-postgres-'))
  // Its socket is for everybody, as a distribution's is.
  chmodSync(directory, 0o755)
  // PostgreSQL refuses to run as root.
  const owner = process.getuid?.() === 0 ? ownerIds() : undefined
  if (owner !== undefined) chownSync(directory, owner.uid, owner.gid)
  const data = path.join(directory, 'data')
  const run = (name: string, args: readonly string[]) =>
    execFileSync(path.join(programs, name), args, { cwd: directory, stdio: 'pipe', ...owner })
  run('initdb', ['--pgdata', data, '--username', 'hoplite', '--auth', 'trust', '--encoding', 'UTF8', '--no-sync'])
  const server = spawn(path.join(programs, 'postgres'), ['-D', data, '-k', directory, '-c', 'listen_addresses='], {
    ...{ cwd: directory, stdio: 'ignore' as const },
    ...owner,
  })
  await untilReady(server, () => run('psql', ['-h', directory, '-U', 'hoplite', '-c', 'SELECT 1', 'postgres']))
  let databases = 0
  return {
    database() {
      const name = `test${++databases}`
      run('createdb', ['-h', directory, '-U', 'hoplite', name])
      return `postgres://hoplite@localhost/${name}?host=${directory}`
    },
    async stop() {
      const ended = new Promise(resolve => server.once('exit', resolve))
      server.kill('SIGINT')
      await ended
      rmSync(directory, { recursive: true, force: true })
    },
  }
}

async function untilReady(server: ChildProcess, ask: () => unknown): Promise<void> {
  const startedMs = performance.now()
  for (;;) {
    try {
      ask()
      return
    } catch (error) {
      if (server.exitCode !== null || performance.now() - startedMs > START_MS) throw error
      await new Promise(resolve => setTimeout(resolve, 100))
    }
  }
}

function ownerIds(): { uid: number; gid: number } {
  const id = (flag: string, user: string) =>
    Number(execFileSync('id', [flag, user], { encoding: 'utf8', stdio: 'pipe' }))
  try {
    return { uid: id('-u', 'postgres'), gid: id('-g', 'postgres') }
  } catch {
    return { uid: id('-u', 'nobody'), gid: id('-g', 'nobody') }
  }
}
