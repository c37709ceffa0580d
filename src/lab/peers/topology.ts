// The one network that every subject is measured on. Each line is a cable with an MTU of 1,500 bytes:
//
//                                   ┌── hop1 … hop6    20.N.0.5
//   client ──── access ──── core ───┼── boot           20.100.0.7
//   31.1.0.9    router     router   └── origin         41.1.0.1
//
// The client has a route to the hops and none to the origin: what reaches the origin went through the subject.

import type { ChildProcess } from 'node:child_process'
import { closeSync, mkdirSync, mkdtempSync, openSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { siblingModule } from '#platform/module-url.ts'
import { type Host, Namespaces } from '../netns.ts'
import { waitFor } from '../testnet.ts'
import { ORIGIN_ADDRESS } from './origin-address.ts'
import type { ProbeRequest } from './probe.ts'
import type { Access, SubjectProcess } from './subject.ts'

export const CLIENT_ADDRESS = '31.1.0.9'
export const BOOT_ADDRESS = '20.100.0.7'
export const HOP_COUNT = 6
const HOPS_NETWORK = '20.0.0.0/8'
const ACCESS_ADDRESS = '32.1.0.1'
const CORE_ADDRESS = '32.1.0.2'
const MAX_LOG_CHARACTERS = 2_000

/** The address of hop `number`, from 1. */
export const hopAddress = (number: number) => `20.${number}.0.5`

export class PeerLab implements AsyncDisposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'hoplite-peers-'))
  readonly #namespaces = new Namespaces()
  readonly #disposals: (() => Promise<void>)[] = []
  readonly #hosts = new Map<string, Host>()
  #runs = 0

  static async build(): Promise<PeerLab> {
    const lab = new PeerLab()
    try {
      await lab.#build()
      return lab
    } catch (error) {
      await lab[Symbol.asyncDispose]()
      throw error
    }
  }

  get client(): Host {
    return this.host('client')
  }

  get origin(): Host {
    return this.host('origin')
  }

  get boot(): Host {
    return this.host('boot')
  }

  /** Hop `number`, from 1 to 6. */
  hop(number: number): Host {
    return this.host(`hop${number}`)
  }

  host(name: string): Host {
    const host = this.#hosts.get(name)
    if (host === undefined) throw new Error(`find a host of the laboratory: there is no ${name}`)
    return host
  }

  /** A directory below the laboratory's own, which goes when that ends. */
  folder(name: string): string {
    const folder = path.join(this.directory, name)
    mkdirSync(folder, { recursive: true, mode: 0o700 })
    return folder
  }

  /** Has the core router send packets for `network` to hop `number`: the way back into a tunnel. */
  async routeBack(network: string, number: number): Promise<void> {
    await this.host('core').ip('route', 'add', network, 'via', hopAddress(number))
  }

  /** Starts a program that goes on; what it writes is kept in a file. */
  start(host: Host, name: string, program: string, words: readonly string[], env: NodeJS.ProcessEnv = {}): LabProcess {
    const log = path.join(this.directory, `${name}.log`)
    const file = openSync(log, 'a', 0o600)
    const child = host.start(program, words, { stdio: ['ignore', file, file], env: { ...process.env, ...env } })
    closeSync(file)
    if (child.pid === undefined) throw new Error(`start ${name}: ${program} does not run`)
    return new LabProcess(name, child, child.pid, log)
  }

  /** Runs a program to its end, which must come within `limitMs`; gives what it wrote. A failure has its words. */
  async run(host: Host, program: string, words: readonly string[], limitMs: number, input?: string): Promise<string> {
    const child = host.start(program, words, { stdio: ['pipe', 'pipe', 'pipe'] })
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input ?? '')
    let [written, complaint] = ['', '']
    child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      written += text
    })
    child.stderr?.setEncoding('utf8').on('data', (text: string) => {
      complaint = (complaint + text).slice(-MAX_LOG_CHARACTERS)
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs)
    const code = await new Promise<number | null>(resolve => child.once('close', resolve))
    clearTimeout(timer)
    if (code !== 0) {
      const why = complaint.trim() || written.slice(-MAX_LOG_CHARACTERS).trim() || `it took more than ${limitMs} ms`
      throw new Error(`run ${path.basename(program)} on ${host.name}: ${why}`)
    }
    return written
  }

  /** What `src/lab/peers/probe.ts` measures on the client, through `access`. */
  async probe<T>(access: Access, request: ProbeRequest, limitMs: number): Promise<T> {
    const words = [PROBE, JSON.stringify({ access, ...request })]
    const said = await this.run(this.client, process.execPath, words, limitMs)
    return JSON.parse(said.slice(said.trimEnd().lastIndexOf('\n') + 1)) as T
  }

  /** Starts such a measurement that something else has to happen during; it says when. */
  startProbe(access: Access, request: ProbeRequest): LabProcess {
    return this.start(this.client, `probe${this.next()}`, process.execPath, [
      PROBE,
      JSON.stringify({ access, ...request }),
    ])
  }

  /** A number that no other call in this laboratory gets: for ports and names. */
  next(): number {
    return ++this.#runs
  }

  /** Calls `dispose` when the laboratory ends, before its hosts go. */
  defer(dispose: () => Promise<void>): void {
    this.#disposals.push(dispose)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const dispose of this.#disposals.splice(0)) await dispose().catch(() => undefined)
    await this.#namespaces[Symbol.asyncDispose]()
    rmSync(this.directory, { recursive: true, force: true })
  }

  async #build(): Promise<void> {
    const [client, access, core] = [await this.#add('client'), await this.#add('access'), await this.#add('core')]
    await this.#namespaces.cable(client, `${CLIENT_ADDRESS}/24`, access, '31.1.0.1/24')
    await this.#namespaces.cable(access, `${ACCESS_ADDRESS}/24`, core, `${CORE_ADDRESS}/24`)
    await client.ip('route', 'add', HOPS_NETWORK, 'via', '31.1.0.1')
    await access.ip('route', 'add', 'default', 'via', CORE_ADDRESS)
    await core.ip('route', 'add', '31.1.0.0/24', 'via', ACCESS_ADDRESS)
    await this.#attach(core, 'boot', BOOT_ADDRESS)
    await this.#attach(core, 'origin', ORIGIN_ADDRESS)
    for (let number = 1; number <= HOP_COUNT; number++)
      await forwarding(await this.#attach(core, `hop${number}`, hopAddress(number)))
    await forwarding(access)
    await forwarding(core)
    await this.#startOrigin()
  }

  async #add(name: string): Promise<Host> {
    const host = await this.#namespaces.host(name)
    this.#hosts.set(name, host)
    return host
  }

  async #attach(core: Host, name: string, address: string): Promise<Host> {
    const host = await this.#add(name)
    const router = address.replace(/\d+$/, '254')
    await this.#namespaces.cable(host, `${address}/24`, core, `${router}/24`)
    await host.ip('route', 'add', 'default', 'via', router)
    return host
  }

  async #startOrigin(): Promise<void> {
    const origin = this.start(this.origin, 'origin', process.execPath, [ORIGIN, ORIGIN_ADDRESS])
    this.start(this.origin, 'iperf3', 'iperf3', ['--server', '--bind', ORIGIN_ADDRESS])
    await origin.says(/ready/, 10_000)
  }
}

/** A program that runs in the laboratory. */
export class LabProcess implements SubjectProcess {
  readonly name: string
  readonly pid: number
  readonly #child: ChildProcess
  readonly #log: string

  constructor(name: string, child: ChildProcess, pid: number, log: string) {
    this.name = name
    this.pid = pid
    this.#child = child
    this.#log = log
  }

  get isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null
  }

  /** Waits until it has written something that matches; throws with its last words when it ends or is late. */
  async says(pattern: RegExp, limitMs: number): Promise<void> {
    const matches = async () => {
      if (pattern.test(readFileSync(this.#log, 'utf8'))) return true
      if (!this.isRunning) throw new Error(`start ${this.name}: ${this.said()}`)
      return undefined
    }
    await waitFor(matches, `${this.name} to say ${pattern.source}`, limitMs)
  }

  /** Waits for its end and gives its last line; throws with its last words when it fails or is late. */
  async lastLine(limitMs: number): Promise<string> {
    await waitFor(async () => (this.isRunning ? undefined : true), `${this.name} to end`, limitMs)
    if (this.#child.exitCode !== 0) throw new Error(`run ${this.name}: ${this.said()}`)
    const said = this.said()
    return said.slice(said.lastIndexOf('\n') + 1)
  }

  /** Its last words. */
  said(): string {
    return readFileSync(this.#log, 'utf8').slice(-MAX_LOG_CHARACTERS).trim()
  }

  /** Ends it at once, as a power cut would, and waits until it is gone. */
  async kill(): Promise<void> {
    if (!this.isRunning) return
    const exited = new Promise<void>(resolve => this.#child.once('exit', () => resolve()))
    this.#child.kill('SIGKILL')
    await exited
  }
}

const PROBE = fileURLToPath(siblingModule(import.meta.url, './probe'))
const ORIGIN = fileURLToPath(siblingModule(import.meta.url, './origin'))

async function forwarding(host: Host): Promise<void> {
  await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0')
}
