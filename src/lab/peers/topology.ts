// The one network that every subject is measured on. Each line is a cable with an MTU of 1,500 bytes:
//
//                                   ┌── hop1 … hop6    20.N.0.5
//   client ──── access ──── core ───┼── boot           20.100.0.7
//   31.1.0.9    router     router   └── origin         41.1.0.1
//
// The client has a route to the hops and none to the origin: what reaches the origin went through the subject.

import { closeSync, mkdirSync, mkdtempSync, openSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { siblingModule } from '#platform/module-url.ts'
import { type Host, Namespaces } from '../netns.ts'
import { LabProcess, MAX_TOLD_CHARACTERS } from './lab-process.ts'
import { ORIGIN_ADDRESS } from './origin-address.ts'
import type { ProbeRequest } from './probe.ts'
import type { Access } from './subject.ts'

export const CLIENT_ADDRESS = '31.1.0.9'
export const BOOT_ADDRESS = '20.100.0.7'
export const HOP_COUNT = 6
const HOPS_NETWORK = '20.0.0.0/8'
const ACCESS_ADDRESS = '32.1.0.1'
const CORE_ADDRESS = '32.1.0.2'

/** The address of hop `number`, from 1. */
export const hopAddress = (number: number) => `20.${number}.0.5`

/** Laboratories that are up, so that a signal can end them. */
const running = new Set<PeerLab>()

/** Ends every laboratory and this process when it is told to end. */
export function stopLabsOnSignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      void Promise.allSettled([...running].map(lab => lab[Symbol.asyncDispose]())).then(() => process.exit(130))
    })
  }
}

export class PeerLab implements AsyncDisposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'hoplite-peers-'))
  readonly #namespaces = new Namespaces()
  readonly #disposals: (() => Promise<void>)[] = []
  readonly #hosts = new Map<string, Host>()
  #built = Promise.resolve()
  #probes = 0

  static async build(): Promise<PeerLab> {
    const lab = new PeerLab()
    running.add(lab)
    try {
      lab.#built = lab.#build()
      await lab.#built
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
  start(host: Host, name: string, program: string, words: readonly string[]): LabProcess {
    const log = path.join(this.directory, `${name}.log`)
    const file = openSync(log, 'a', 0o600)
    const child = host.start(program, words, { stdio: ['ignore', file, file] })
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
      complaint = (complaint + text).slice(-MAX_TOLD_CHARACTERS)
    })
    const timer = setTimeout(() => child.kill('SIGKILL'), limitMs)
    const code = await new Promise<number | null>(resolve => child.once('close', resolve))
    clearTimeout(timer)
    if (code !== 0) {
      const why = complaint.trim() || written.slice(-MAX_TOLD_CHARACTERS).trim() || `it took more than ${limitMs} ms`
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
    return this.start(this.client, `probe${++this.#probes}`, process.execPath, [
      PROBE,
      JSON.stringify({ access, ...request }),
    ])
  }

  /** Calls `dispose` when the laboratory ends, before its hosts go. */
  defer(dispose: () => Promise<void>): void {
    this.#disposals.push(dispose)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // Half-way through, a host could still come into being after the others have gone.
    await this.#built.catch(() => undefined)
    for (const dispose of this.#disposals.splice(0)) await dispose().catch(() => undefined)
    await this.#namespaces[Symbol.asyncDispose]()
    rmSync(this.directory, { recursive: true, force: true })
    running.delete(this)
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

const PROBE = fileURLToPath(siblingModule(import.meta.url, './probe'))
const ORIGIN = fileURLToPath(siblingModule(import.meta.url, './origin'))

async function forwarding(host: Host): Promise<void> {
  await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv4.conf.all.rp_filter=0')
}
