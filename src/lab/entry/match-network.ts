// A network for peers that nobody reaches by an address: peers and users behind routers of their own, relays, and a VPN provider's
// WireGuard server (`wireguard-go`) on the internet.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { addHome, type Home, type HomeNat } from '../nat/home.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { COLD, waitFor } from '../testnet.ts'
import { INSIDE, type Keys, makeKeys, SERVER_PORT, startServer } from '../wireguard/wireguard-go.ts'

const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const DOWNLOAD = fileURLToPath(new URL('../download-process.ts', import.meta.url))
const ORIGIN = fileURLToPath(new URL('../origin.ts', import.meta.url))
const BOOTSTRAP = '20.1.0.7'
const RELAYS = ['20.2.0.1', '20.3.0.1', '20.4.0.1'] as const
const VPN = '20.9.0.1'
const WEB = '20.10.0.1'
const MAX_USERS = 4

export interface MatchNetworkOptions {
  /** How often everybody posts a letter; what users have without it. */
  readonly intervalMs?: number
}

/** A peer or a user at home. */
export interface Resident {
  readonly name: string
  readonly home: Home
  /** The address of its router outside. */
  readonly outside: string
}

export interface Download {
  readonly bytes: number
  readonly sha256: string
  readonly ms: number
  readonly longestPauseMs: number
}

export class MatchNetwork implements AsyncDisposable {
  readonly server = `${VPN}:${SERVER_PORT}`
  readonly relays: readonly string[] = RELAYS
  readonly #lab = new Namespaces()
  readonly #folder = mkdtempSync(path.join(tmpdir(), 'hoplite-match-'))
  readonly #suffix = process.pid.toString(36)
  readonly #serverKeys = makeKeys()
  readonly #users: { resident: Resident; keys: Keys; inside: string }[] = []
  readonly #userKeys = Array.from({ length: MAX_USERS }, makeKeys)
  readonly #pids = new Map<string, number>()
  readonly #options: MatchNetworkOptions
  #internet!: Host
  #vpn!: Host
  #origin = ''
  #network: readonly string[] = []
  #homes = 0

  private constructor(options: MatchNetworkOptions) {
    this.#options = options
  }

  /** What is missing to build the network here, or `undefined` when nothing is. */
  static missing(): string | undefined {
    const missing = missingForNamespaces('wireguard-go', 'wg', 'nft', 'ping', 'sysctl')
    return missing ?? (existsSync('/dev/net/tun') ? undefined : '/dev/net/tun')
  }

  /** Builds the network, with neither peers nor users; throws when something is missing on this machine. */
  static async start(options: MatchNetworkOptions = {}): Promise<MatchNetwork> {
    const missing = MatchNetwork.missing()
    if (missing !== undefined) throw new Error(`build the network of matching: ${missing} is missing`)
    const network = new MatchNetwork(options)
    try {
      await network.#build()
      return network
    } catch (error) {
      await network[Symbol.asyncDispose]()
      throw error
    }
  }

  /** A peer behind a router, with no address in its configuration. */
  async addPeer(name: string, nat: HomeNat, limits: readonly string[] = []): Promise<Resident> {
    const resident = await this.#addHome(name, nat)
    await this.startPeer(resident, limits)
    return resident
  }

  /** Starts its node, for the first time or again. */
  async startPeer({ name, home }: Resident, limits: readonly string[] = []): Promise<void> {
    const lines = ['[relay]', `operator = "${name}"`, '[peer]', 'rate_kbit = 4000000', ...limits, ...this.#meet()]
    await this.#startNode(name, home.host, 'peer', [...this.#network, ...lines])
  }

  /** A peer with an address that everybody reaches. */
  async addPublicPeer(name: string, address: string): Promise<void> {
    const host = await this.#lab.host(name)
    await this.#lab.plug(host, this.#internet, `${address}/8`)
    const relay = [`listen = "${address}:51821"`, `control_listen = "${address}:51820"`, `operator = "${name}"`]
    const lines = ['[relay]', ...relay, '[peer]', 'rate_kbit = 4000000', ...this.#meet()]
    await this.#startNode(name, host, 'peer', [...this.#network, ...lines])
  }

  async addUser(name: string, nat: HomeNat): Promise<Resident> {
    const resident = await this.#addHome(name, nat)
    const keys = this.#userKeys[this.#users.length]
    if (keys === undefined) throw new Error(`add a user: there are ${MAX_USERS}`)
    this.#users.push({ resident, keys, inside: `10.66.0.${2 + this.#users.length}` })
    writeFileSync(this.config(name), `${[...this.#network, ...this.#meet(), ...COLD].join('\n')}\n`)
    return resident
  }

  /** The user's WireGuard file. */
  clientFile(name: string): string {
    const user = this.#users.findIndex(({ resident }) => resident.name === name)
    const { keys, inside } = this.#users[user] as { keys: Keys; inside: string }
    const file = path.join(this.#folder, `hm${user}${this.#suffix}.conf`)
    const lines = [
      ...['[Interface]', `PrivateKey = ${keys.private}`, `Address = ${inside}/32`],
      ...['[Peer]', `PublicKey = ${this.#serverKeys.public}`, 'AllowedIPs = 0.0.0.0/0', `Endpoint = ${this.server}`],
    ]
    writeFileSync(file, `${lines.join('\n')}\n`, { mode: 0o600 })
    return file
  }

  config(name: string): string {
    return path.join(this.#folder, `${name}.toml`)
  }

  state(name: string): string {
    return path.join(this.#folder, name)
  }

  /** `hoplite VERB` at somebody's home, to its end. */
  hoplite({ name, home }: Resident, ...words: string[]): Promise<string> {
    const all = [...words, '--state-dir', this.state(name)]
    return home.host.run(process.execPath, COMMAND, ...all)
  }

  status(name: string): Promise<Status> {
    return callAction(socketPath(this.state(name)), 'status', {})
  }

  /** Where the server sends a user's packets to. */
  async addressAtServer(name: string): Promise<string> {
    const text = await this.#vpn.run('wg', 'show', `ws${this.#suffix}`, 'endpoints')
    const key = this.#users.find(({ resident }) => resident.name === name)?.keys.public ?? ''
    const line = text.split('\n').find(each => each.startsWith(key))
    return line?.split(/\s+/)[1] ?? ''
  }

  /** Ends a node without warning. */
  kill(name: string): void {
    const pid = this.#pids.get(name)
    if (pid !== undefined) process.kill(pid, 'SIGKILL')
    this.#pids.delete(name)
  }

  /** Resolves when a packet came back through the user's tunnel. */
  firstByte({ home }: Resident, withinMs: number): Promise<true> {
    const ask = () =>
      home.host.run('ping', '-c', '1', '-W', '1', INSIDE).then(
        () => true as const,
        () => undefined,
      )
    return waitFor(ask, 'the first byte through the tunnel', withinMs)
  }

  /** Median round trip inside the tunnel. */
  async rttMs({ home }: Resident): Promise<number> {
    const text = await home.host.run('ping', '-i', '0.02', '-c', '50', '-W', '1', INSIDE)
    const times = [...text.matchAll(/time=([0-9.]+)/g)].map(match => Number(match[1])).sort((a, b) => a - b)
    return times[times.length >> 1] ?? Number.NaN
  }

  /** Starts a download of so many bytes; `begun` resolves when a tenth has come. */
  download({ home }: Resident, bytes: number): { readonly begun: Promise<unknown>; readonly done: Promise<Download> } {
    const sign = path.join(this.#folder, `sign-${performance.now()}`)
    const words = [DOWNLOAD, `${this.#origin}/bytes/${bytes}`, sign]
    const done = home.host.run(process.execPath, ...words).then(text => JSON.parse(text) as Download)
    const begun = Promise.race([done, waitFor(async () => existsSync(sign) || undefined, 'the download')])
    return { begun, done }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { resident } of this.#users) await this.hoplite(resident, 'down').catch(() => undefined)
    await this.#lab[Symbol.asyncDispose]()
    rmSync(this.#folder, { recursive: true, force: true })
  }

  async #build(): Promise<void> {
    this.#internet = await this.#lab.switch('inet')
    const plugged = async (name: string, address: string) => {
      const host = await this.#lab.host(name)
      await this.#lab.plug(host, this.#internet, `${address}/8`)
      return host
    }
    this.#vpn = await plugged('vpn', VPN)
    const clients = this.#userKeys.map(({ public: key }) => key)
    await startServer(this.#folder, this.#vpn, `ws${this.#suffix}`, this.#serverKeys, clients)
    const web = await plugged('web', WEB)
    const child = web.start(process.execPath, [ORIGIN, WEB], { stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
    const { http } = await new Promise<{ http: number }>(resolve => child.once('message', resolve as () => void))
    this.#origin = `http://${WEB}:${http}`
    const boot = await plugged('boot', BOOTSTRAP)
    const control = [`[relay]`, `control_listen = "${BOOTSTRAP}:51820"`, ...this.#meet()]
    const { listening } = await this.#startNode('boot', boot, 'bootstrap', control)
    this.#network = ['[network]', `bootstrap = ["${listening['control']?.[0]}"]`]
    for (const [i, address] of RELAYS.entries()) {
      const host = await plugged(`relay${i}`, address)
      const listen = [`listen = "${address}:51821"`, `control_listen = "${address}:51820"`, `operator = "o${i}"`]
      await this.#startNode(`relay${i}`, host, 'relay', [...this.#network, '[relay]', ...listen, ...this.#meet()])
    }
  }

  #meet(): string[] {
    const { intervalMs } = this.#options
    return intervalMs === undefined ? [] : ['[meet]', `interval_ms = ${intervalMs}`, 'work_bits = 8']
  }

  async #addHome(name: string, nat: HomeNat): Promise<Resident> {
    const index = ++this.#homes
    const home = await addHome(this.#lab, this.#internet, index, nat)
    return { name, home, outside: `20.0.1.${index}` }
  }

  async #startNode(name: string, host: Host, role: string, lines: readonly string[]): Promise<Status> {
    writeFileSync(this.config(name), `${[...lines, ...COLD].join('\n')}\n`)
    const words = [COMMAND, role, '--config', this.config(name), '--state-dir', this.state(name)]
    host.start(process.execPath, words)
    const up = async () => {
      const status = await this.status(name).catch(() => undefined)
      return status?.state === 'ready' ? status : undefined
    }
    const status = await waitFor(up, name)
    this.#pids.set(name, status.pid)
    return status
  }
}
