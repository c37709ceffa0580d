// Hosts of a laboratory: network namespaces, joined by cables or switches, with the processes that run in them.
//
//   await using lab = new Namespaces()
//   const [a, b] = [await lab.host('a'), await lab.host('b')]
//   await lab.cable(a, '10.9.0.1/24', b, '10.9.0.2/24')
//   await a.run('ping', '-c', '1', '10.9.0.2')
//
// Disposing ends every process that was started here and deletes the namespaces. Needs Linux, root and `ip`.

import { type ChildProcess, execFile, type SpawnOptions, spawn } from 'node:child_process'
import { promisify } from 'node:util'
import { hasTool } from './skip.ts'

const execute = promisify(execFile)
const COMMAND_TIMEOUT_MS = 300_000
const KILL_AFTER_MS = 5_000

/** What is missing to make namespaces here, or `undefined` when nothing is. */
export function missingForNamespaces(...programs: readonly string[]): string | undefined {
  if (process.platform !== 'linux') return 'Linux'
  if (process.getuid?.() !== 0) return 'root'
  return ['ip', ...programs].find(program => !hasTool(program))
}

export class Host {
  readonly name: string
  readonly namespace: string
  readonly #started: ChildProcess[]
  links = 0

  constructor(name: string, namespace: string, started: ChildProcess[]) {
    this.name = name
    this.namespace = namespace
    this.#started = started
  }

  /** Runs a program to its end and gives what it wrote; throws when it fails or takes longer than five minutes. */
  async run(program: string, ...words: string[]): Promise<string> {
    const inside = ['netns', 'exec', this.namespace, program, ...words]
    const { stdout } = await execute('ip', inside, { timeout: COMMAND_TIMEOUT_MS, maxBuffer: 64 * 1024 * 1024 })
    return stdout
  }

  /** `ip` on this host. */
  ip(...words: string[]): Promise<string> {
    return execute('ip', ['-n', this.namespace, ...words], { timeout: COMMAND_TIMEOUT_MS }).then(done => done.stdout)
  }

  /** Starts a program; it is ended with the laboratory at the latest. */
  start(program: string, words: readonly string[], options: SpawnOptions = {}): ChildProcess {
    const child = spawn('ip', ['netns', 'exec', this.namespace, program, ...words], { stdio: 'ignore', ...options })
    this.#started.push(child)
    return child
  }
}

export class Namespaces implements AsyncDisposable {
  readonly #prefix = `hoplite-${process.pid.toString(36)}`
  readonly #hosts: Host[] = []
  readonly #started: ChildProcess[] = []

  /** Adds a host with loopback up. `name` is at most eight letters and digits. */
  async host(name: string): Promise<Host> {
    const host = new Host(name, `${this.#prefix}-${name}`, this.#started)
    await execute('ip', ['netns', 'add', host.namespace])
    this.#hosts.push(host)
    await host.ip('link', 'set', 'lo', 'up')
    return host
  }

  /** Adds a switch: a host with a bridge that `plug` puts cables into. */
  async switch(name: string): Promise<Host> {
    const host = await this.host(name)
    await host.ip('link', 'add', 'bridge', 'type', 'bridge')
    await host.ip('link', 'set', 'bridge', 'up')
    return host
  }

  /** Joins two hosts, each with one address (with its prefix length); the interfaces are called `eth0`, `eth1` and so on. */
  async cable(a: Host, addressA: string, b: Host, addressB: string): Promise<readonly [string, string]> {
    const ends = [`eth${a.links++}`, `eth${b.links++}`] as const
    await a.ip('link', 'add', ends[0], 'type', 'veth', 'peer', 'name', ends[1], 'netns', b.namespace)
    await bringUp(a, ends[0], addressA)
    await bringUp(b, ends[1], addressB)
    return ends
  }

  /** Plugs a host into a switch; gives the name of its interface. */
  async plug(host: Host, into: Host, address: string): Promise<string> {
    const interfaceName = `eth${host.links++}`
    const port = `port${into.links++}`
    await into.ip('link', 'add', port, 'type', 'veth', 'peer', 'name', interfaceName, 'netns', host.namespace)
    await into.ip('link', 'set', port, 'master', 'bridge', 'up')
    await bringUp(host, interfaceName, address)
    return interfaceName
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#started.map(end))
    for (const host of this.#hosts) await execute('ip', ['netns', 'del', host.namespace]).catch(() => undefined)
  }
}

/** Ends a process: asks first, and kills it when it takes too long. */
async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null || child.pid === undefined) return
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  child.kill('SIGTERM')
  const timer = setTimeout(() => child.kill('SIGKILL'), KILL_AFTER_MS)
  await exited
  clearTimeout(timer)
}

async function bringUp(host: Host, interfaceName: string, address: string): Promise<void> {
  // Without duplicate address detection: an IPv6 address is of use at once.
  const flags = address.includes(':') ? ['nodad'] : []
  await host.ip('address', 'add', address, 'dev', interfaceName, ...flags)
  await host.ip('link', 'set', interfaceName, 'up')
}
