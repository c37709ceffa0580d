// A network for whole machines: a client behind a router that translates its address, four relays, two exits with a tunnel, and
// an origin with a resolver, each in a namespace of its own with public-looking addresses.
//
//   me ── LAN 192.168.7.0/24, 2a00:40::/64 ── gate ══ internet ══ boot, one … four, left, right, web

import { type ChildProcess } from 'node:child_process'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { COLD, waitFor } from '../testnet.ts'

const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const DOWNLOAD = fileURLToPath(new URL('../download-process.ts', import.meta.url))
const ORIGIN = fileURLToPath(new URL('../origin.ts', import.meta.url))
const NAMES = fileURLToPath(new URL('../devices/name-process.ts', import.meta.url))
const RELAYS = ['one', 'two', 'three', 'four'] as const
const EXITS = ['left', 'right'] as const
const ADDRESSES = {
  boot: '20.1.0.7',
  one: '21.1.0.5',
  two: '22.1.0.5',
  three: '23.1.0.5',
  four: '24.1.0.5',
  left: '31.1.0.5',
  right: '32.1.0.5',
  gate: '40.1.0.9',
  web: '50.1.0.1',
} as const
const ADDRESSES_6 = { left: '2a03:31::5', right: '2a03:32::5', gate: '2a03:40::9', web: '2a03:50::1' } as const
export const RELAY_PORT = 51_821
const CONTROL_PORT = 51_820

export type RelayName = (typeof RELAYS)[number] | (typeof EXITS)[number]
export type HostName = keyof typeof ADDRESSES | 'me'

/** The client's side of the LAN. */
export const LAN = {
  me: '192.168.7.2',
  other: '192.168.7.77',
  gate: '192.168.7.1',
  me6: '2a00:40::2',
  gate6: '2a00:40::1',
} as const

export interface Download {
  readonly bytes: number
  readonly sha256: string
  readonly ms: number
  readonly longestPauseMs: number
  readonly error?: string
}

export interface MachineNetworkOptions {
  /** How many of the four relays there are; the exits are relays too. */
  readonly relays: number
  readonly hops: number
  /** Whether throughput is measured. */
  readonly measures?: boolean
}

export class MachineNetwork implements AsyncDisposable {
  readonly directory = mkdtempSync(path.join(tmpdir(), 'hoplite-machine-'))
  readonly #lab = new Namespaces()
  readonly #hosts = new Map<HostName, Host>()
  readonly #options: MachineNetworkOptions
  #lanLink = ''
  #httpPort = 0
  #udpPort = 0

  private constructor(options: MachineNetworkOptions) {
    this.#options = options
  }

  /** Builds the network and starts all nodes but the client's. Throws when something is missing on this machine. */
  static async start(options: MachineNetworkOptions): Promise<MachineNetwork> {
    const missing = MachineNetwork.missing()
    if (missing !== undefined) throw new Error(`build the network: ${missing} is missing`)
    const network = new MachineNetwork(options)
    try {
      await network.#build()
      return network
    } catch (error) {
      await network[Symbol.asyncDispose]()
      throw error
    }
  }

  /** What this machine lacks for such a network. */
  static missing(...programs: string[]): string | undefined {
    if (process.platform === 'linux' && !existsSync('/dev/net/tun')) return '/dev/net/tun'
    return missingForNamespaces('nft', 'ping', 'nsenter', ...programs)
  }

  get relayNames(): readonly RelayName[] {
    return [...RELAYS.slice(0, this.#options.relays), ...EXITS]
  }

  host(name: HostName): Host {
    const host = this.#hosts.get(name)
    if (host === undefined) throw new Error(`there is no host ${name}`)
    return host
  }

  address(name: keyof typeof ADDRESSES): string {
    return ADDRESSES[name]
  }

  address6(name: keyof typeof ADDRESSES_6): string {
    return ADDRESSES_6[name]
  }

  /** Where the origin serves HTTP, by address or name. */
  origin(host: string): string {
    return `http://${host.includes(':') ? `[${host}]` : host}:${this.#httpPort}`
  }

  /** The router's interface on the LAN. */
  get lanLink(): string {
    return this.#lanLink
  }

  get echoPort(): number {
    return this.#udpPort
  }

  state(name: HostName): string {
    return path.join(this.directory, name)
  }

  config(name: HostName): string {
    return path.join(this.directory, `${name}.toml`)
  }

  /** `hoplite VERB` on a host, to its end. */
  hoplite(name: HostName, ...words: string[]): Promise<string> {
    return this.host(name).run(process.execPath, COMMAND, ...words, '--state-dir', this.state(name))
  }

  up(...words: string[]): Promise<string> {
    return this.hoplite('me', 'up', '--tun', '--config', this.config('me'), ...words)
  }

  status(name: HostName = 'me'): Promise<Status> {
    return callAction(socketPath(this.state(name)), 'status', {})
  }

  /** Waits until the client's route is ready and, if asked, a spare way too. */
  ready(withSpare = true): Promise<Status> {
    return waitFor(async () => {
      const status = await this.status().catch(() => undefined)
      const isThere = status?.state === 'ready' && (!withSpare || status.routes[0]?.spare !== undefined)
      return isThere ? status : undefined
    }, 'a route with a spare way')
  }

  /** Makes the client's data plane fail, and waits until it is back. */
  async crash(): Promise<void> {
    const before = await this.status()
    await callAction(socketPath(this.state('me')), 'crash', {})
    await waitFor(async () => {
      const status = await this.status().catch(() => undefined)
      return status?.state === 'ready' && status.uptimeMs < before.uptimeMs ? true : undefined
    }, 'another data plane')
  }

  /** Runs a program where the client's helper is, with the name resolution that it has set. */
  async inside(program: string, ...words: string[]): Promise<string> {
    const { helper } = await this.processes()
    return this.host('me').run('nsenter', `--mount=/proc/${helper}/ns/mnt`, '--', program, ...words)
  }

  /** The process ids of a node that root started with a tunnel. */
  async processes(name: HostName = 'me'): Promise<{ readonly daemon: number; readonly helper: number }> {
    const { pid: daemon } = await this.status(name)
    const { PPid } = processStatus(daemon)
    return { daemon, helper: Number(PPid) }
  }

  /** Starts a download by the client; `begun` resolves when a tenth has come. */
  download(bytes: number, host: string = ADDRESSES.web) {
    const sign = path.join(this.directory, `sign-${performance.now()}`)
    const url = `${this.origin(host)}/bytes/${bytes}`
    const child = this.host('me').start(process.execPath, [DOWNLOAD, url, sign], {
      stdio: ['ignore', 'pipe', 'inherit'],
    })
    // What it says counts, and not its end: that may wait for whatever its libraries still have open.
    const done = firstLine(child).then(text => JSON.parse(text) as Download)
    void done.finally(() => child.kill('SIGKILL')).catch(() => undefined)
    const begun = Promise.race([done, waitFor(async () => existsSync(sign) || undefined, 'the download')])
    return { begun, done }
  }

  /** What the origin saw of clients: their addresses with port. */
  async seenByOrigin(): Promise<string[]> {
    const text = await this.host('web').run(
      process.execPath,
      '--eval',
      `fetch(${JSON.stringify(`${this.origin(ADDRESSES.web)}/observation`)}).then(async r => console.log(await r.text()))`,
    )
    return (JSON.parse(text) as { addresses: string[] }).addresses
  }

  /** The addresses that asked the resolver. */
  async askers(): Promise<string[]> {
    const ask = `fetch('http://${ADDRESSES.web}:5380/').then(async r => console.log(await r.text()))`
    return JSON.parse(await this.host('web').run(process.execPath, '--eval', ask))
  }

  /** The relay that has this address. */
  relayAt(address: string): RelayName | undefined {
    return this.relayNames.find(name => address.startsWith(`${ADDRESSES[name]}:`))
  }

  /** Ends a relay without warning. */
  async kill(name: RelayName): Promise<void> {
    process.kill((await this.status(name)).pid, 'SIGKILL')
  }

  async startRelay(name: RelayName): Promise<void> {
    const isExit = EXITS.some(exit => exit === name)
    const words = ['relay', ...(isExit ? ['--exit', '--tun'] : [])]
    const child = this.#start(name, ...words)
    await waitFor(async () => {
      if (child.exitCode !== null) throw new Error(`the relay ${name} ended with ${child.exitCode}`)
      return this.status(name).catch(() => undefined)
    }, `the relay ${name}`)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#hosts.has('me')) await this.hoplite('me', 'down').catch(() => undefined)
    await this.#lab[Symbol.asyncDispose]()
    rmSync(this.directory, { recursive: true, force: true })
  }

  #start(name: HostName, ...words: string[]): ChildProcess {
    const all = [COMMAND, ...words, '--config', this.config(name), '--state-dir', this.state(name)]
    return this.host(name).start(process.execPath, all)
  }

  async #build(): Promise<void> {
    const middle = await this.#lab.switch('switch')
    const names = ['boot', ...this.relayNames, 'gate', 'web'] as const
    for (const name of names) {
      const host = await this.#lab.host(name)
      this.#hosts.set(name, host)
      const link = await this.#lab.plug(host, middle, `${ADDRESSES[name]}/32`)
      await host.ip('route', 'add', 'default', 'dev', link)
      const six = name in ADDRESSES_6 ? ADDRESSES_6[name as keyof typeof ADDRESSES_6] : undefined
      if (six === undefined) continue
      await host.ip('address', 'add', `${six}/128`, 'dev', link, 'nodad')
      await host.ip('-6', 'route', 'add', 'default', 'dev', link)
    }
    await this.#buildLan()
    await this.#startOrigin()
    const bootstrap = await this.#startBootstrap()
    const network = ['[network]', `bootstrap = ["${bootstrap}"]`]
    this.#write('me', [...network, '[client]', `hops = ${this.#options.hops}`, '[lab]', 'observe = true'])
    for (const name of this.relayNames) {
      const ip = ADDRESSES[name]
      const listen = [
        `listen = "${ip}:${RELAY_PORT}"`,
        `control_listen = "${ip}:${CONTROL_PORT}"`,
        `operator = "${name}"`,
      ]
      this.#write(name, [...network, '[relay]', ...listen, '[exit]', `dns = ["${ADDRESSES.web}"]`])
    }
    await Promise.all(this.relayNames.map(name => this.startRelay(name)))
  }

  /** The client's LAN; its router translates IPv4, and leads IPv6 nowhere but to itself. */
  async #buildLan(): Promise<void> {
    const me = await this.#lab.host('me')
    this.#hosts.set('me', me)
    const gate = this.host('gate')
    const [, inside] = await this.#lab.cable(me, `${LAN.me}/24`, gate, `${LAN.gate}/24`)
    this.#lanLink = inside
    await me.ip('address', 'add', `${LAN.me6}/64`, 'dev', 'eth0', 'nodad')
    await gate.ip('address', 'add', `${LAN.gate6}/64`, 'dev', inside, 'nodad')
    await me.ip('route', 'add', 'default', 'via', LAN.gate)
    await me.ip('-6', 'route', 'add', 'default', 'via', LAN.gate6)
    await gate.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
    await gate.run(
      'nft',
      'table ip nat { chain out { type nat hook postrouting priority 100; oifname "eth0" masquerade; }; }',
    )
  }

  async #startOrigin(): Promise<void> {
    const web = this.host('web')
    // On every address of both families; the echo of datagrams on IPv4.
    const child = web.start(process.execPath, [ORIGIN, '::'], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const { http, udp } = await new Promise<{ http: number; udp: number }>(resolve => {
      child.once('message', resolve as () => void)
    })
    this.#httpPort = http
    this.#udpPort = udp
    web.start(process.execPath, ['--no-warnings', NAMES, ADDRESSES.web, ADDRESSES.web, ADDRESSES_6.web])
  }

  async #startBootstrap(): Promise<string> {
    this.#write('boot', ['[relay]', `control_listen = "${ADDRESSES.boot}:${CONTROL_PORT}"`])
    this.#start('boot', 'bootstrap')
    return waitFor(async () => {
      const status = await this.status('boot').catch(() => undefined)
      return status?.listening['control']?.[0]
    }, 'the bootstrap node')
  }

  #write(name: HostName, lines: readonly string[]): void {
    const all = [...lines, ...(this.#options.measures ? [] : COLD)]
    writeFileSync(this.config(name), `${all.join('\n')}\n`)
  }
}

/** What the kernel says of a process, by name (proc(5), status). */
export function processStatus(pid: number): Readonly<Record<string, string>> {
  const lines = readFileSync(`/proc/${pid}/status`, 'utf8').trim().split('\n')
  return Object.fromEntries(lines.map(line => line.split(/:\s*/) as [string, string]))
}

/** The first line that a process says; throws when it ends without one. */
async function firstLine(child: ChildProcess): Promise<string> {
  if (child.stdout === null) throw new Error('the process has no output')
  for await (const line of createInterface({ input: child.stdout })) return line
  throw new Error('the process said nothing')
}
