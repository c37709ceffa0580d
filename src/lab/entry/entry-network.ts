// A network for entries: a client, peers, and a VPN provider's WireGuard server (`wireguard-go`) that translates addresses to
// an origin, each in a namespace of its own with a public-looking address.

import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { COLD, waitFor } from '../testnet.ts'
import {
  CLIENT_INSIDE,
  INSIDE,
  makeKeys,
  SERVER_PORT,
  startServer,
  startWireGuardGo,
} from '../wireguard/wireguard-go.ts'

export const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const DOWNLOAD = fileURLToPath(new URL('../download-process.ts', import.meta.url))
const ORIGIN = fileURLToPath(new URL('../origin.ts', import.meta.url))
const PEERS = ['one', 'two', 'three', 'four'] as const
export type PeerName = (typeof PEERS)[number]
const ADDRESSES = {
  boot: '20.1.0.7',
  one: '21.1.0.5',
  two: '22.1.0.5',
  three: '23.1.0.5',
  four: '24.1.0.5',
  vpn: '30.1.0.1',
  me: '40.1.0.9',
  web: '50.1.0.1',
} as const
type Name = keyof typeof ADDRESSES

export interface Download {
  readonly bytes: number
  readonly sha256: string
  readonly ms: number
  readonly longestPauseMs: number
  readonly error?: string
}

export interface EntryNetworkOptions {
  /** At most four; all of them without it. */
  readonly peers?: number
  /** What each peer carries, in kbit/s; about all that comes, without it. */
  readonly rateKbit?: number
  /** What peers ask, in credits for a GiB, after their first MiB; an issuer runs then. */
  readonly price?: number
  /** Whether throughput is measured: `iperf3` then serves at the WireGuard server. */
  readonly measures?: boolean
}

export class EntryNetwork implements AsyncDisposable {
  readonly server = `${ADDRESSES.vpn}:${SERVER_PORT}`
  readonly #lab = new Namespaces()
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'hoplite-entry-'))
  readonly #suffix = process.pid.toString(36)
  readonly #hosts = {} as Record<Name, Host>
  /** The process of each peer that runs; what was started may be a launcher of it. */
  readonly #peers = new Map<PeerName, number>()
  readonly #serverKeys = makeKeys()
  readonly #clientKeys = makeKeys()
  readonly #options: EntryNetworkOptions
  #origin = ''

  private constructor(options: EntryNetworkOptions) {
    this.#options = options
  }

  /** What is missing to build the network here, or `undefined` when nothing is. */
  static missing({ measures = false }: EntryNetworkOptions = {}): string | undefined {
    const missing = missingForNamespaces('wireguard-go', 'wg', 'nft', 'ping', ...(measures ? ['iperf3', 'socat'] : []))
    return missing ?? (existsSync('/dev/net/tun') ? undefined : '/dev/net/tun')
  }

  /** Builds the network; throws when something is missing on this machine. */
  static async start(options: EntryNetworkOptions = {}): Promise<EntryNetwork> {
    const missing = EntryNetwork.missing(options)
    if (missing !== undefined) throw new Error(`build the network for entries: ${missing} is missing`)
    const network = new EntryNetwork(options)
    try {
      await network.#build()
      return network
    } catch (error) {
      await network[Symbol.asyncDispose]()
      throw error
    }
  }

  host(name: Name): Host {
    return this.#hosts[name]
  }

  address(name: Name): string {
    return ADDRESSES[name]
  }

  /** Where the origin serves HTTP. */
  get origin(): string {
    return this.#origin
  }

  state(name: Name): string {
    return path.join(this.#directory, name)
  }

  /** `hoplite VERB` on a host, to its end. */
  hoplite(name: Name, ...words: string[]): Promise<string> {
    return this.#hosts[name].run(process.execPath, COMMAND, ...words, '--state-dir', this.state(name))
  }

  /** The client's WireGuard file, with the lines given for [Interface] and [Peer]. */
  clientFile(endpoint: string, ...lines: string[]): string {
    const file = path.join(this.#directory, `hl${this.#suffix}.conf`)
    const text = [
      ['[Interface]', `PrivateKey = ${this.#clientKeys.private}`, `Address = ${CLIENT_INSIDE}/32`, ...lines],
      ['[Peer]', `PublicKey = ${this.#serverKeys.public}`, 'AllowedIPs = 0.0.0.0/0', `Endpoint = ${endpoint}`],
    ]
    writeFileSync(file, `${text.flat().join('\n')}\n`, { mode: 0o600 })
    return file
  }

  clientConfig(): string {
    return path.join(this.#directory, 'me.toml')
  }

  /** Brings up `wireguard-go` on the client with the server at `endpoint`; a second call moves it there. */
  async runWireGuardGo(endpoint: string, mtu: number): Promise<void> {
    const me = this.#hosts.me
    const name = `wc${this.#suffix}`
    await this.stopWireGuardGo()
    await startWireGuardGo(this.#directory, me, name, this.#clientKeys.private, [
      ['peer', this.#serverKeys.public, 'allowed-ips', '0.0.0.0/0', 'endpoint', endpoint],
    ])
    await me.ip('address', 'add', `${CLIENT_INSIDE}/32`, 'dev', name)
    await me.ip('link', 'set', name, 'mtu', String(mtu), 'up')
    await me.ip('route', 'add', `${INSIDE}/32`, 'dev', name)
    await me.ip('route', 'add', `${ADDRESSES.web}/32`, 'dev', name)
  }

  async stopWireGuardGo(): Promise<void> {
    const me = this.#hosts.me
    await me.ip('link', 'del', `wc${this.#suffix}`).catch(() => undefined)
    await waitFor(async () => !existsSync(`/var/run/wireguard/wc${this.#suffix}.sock`) || undefined, 'the end of wg')
  }

  /** The address that the server sends the client's packets to. */
  async addressAtServer(): Promise<string> {
    const text = await this.#hosts.vpn.run('wg', 'show', `ws${this.#suffix}`, 'endpoints')
    return text.trim().split(/\s+/)[1] ?? ''
  }

  /** What a download of so many bytes asks the origin for. */
  path(bytes: number): string {
    return `/bytes/${String(bytes).padStart(12, '0')}`
  }

  /** Starts a download in the client's namespace; `begun` resolves when a tenth has come. */
  download(bytes: number): { readonly begun: Promise<unknown>; readonly done: Promise<Download> } {
    const sign = path.join(this.#directory, `sign-${performance.now()}`)
    const words = [DOWNLOAD, `${this.#origin}${this.path(bytes)}`, sign]
    const done = this.#hosts.me.run(process.execPath, ...words).then(text => JSON.parse(text) as Download)
    const begun = Promise.race([done, waitFor(async () => existsSync(sign) || undefined, 'the download')])
    return { begun, done }
  }

  /** Kills the peer that has this address, without warning. */
  killPeer(address: string): PeerName | undefined {
    const name = PEERS.find(name => address.startsWith(`${ADDRESSES[name]}:`))
    const pid = name === undefined ? undefined : this.#peers.get(name)
    if (name === undefined || pid === undefined) return undefined
    process.kill(pid, 'SIGKILL')
    this.#peers.delete(name)
    return name
  }

  async startPeer(name: PeerName): Promise<void> {
    const file = path.join(this.#directory, `${name}.toml`)
    const words = [COMMAND, 'peer', '--json', '--config', file, '--state-dir', this.state(name)]
    this.#hosts[name].start(process.execPath, words, { stdio: ['ignore', 'ignore', 'inherit'] })
    const { pid } = await waitFor(
      async () => callAction(socketPath(this.state(name)), 'status', {}).catch(() => undefined),
      `the peer ${name}`,
    )
    this.#peers.set(name, pid)
  }

  get peerNames(): readonly PeerName[] {
    return PEERS.slice(0, this.#options.peers)
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hoplite('me', 'down').catch(() => undefined)
    await this.stopWireGuardGo().catch(() => undefined)
    await this.#lab[Symbol.asyncDispose]()
    rmSync(this.#directory, { recursive: true, force: true })
  }

  async #build(): Promise<void> {
    const middle = await this.#lab.switch('switch')
    for (const [name, address] of Object.entries(ADDRESSES) as [Name, string][]) {
      const host = await this.#lab.host(name)
      this.#hosts[name] = host
      const link = await this.#lab.plug(host, middle, `${address}/32`)
      await host.ip('route', 'add', 'default', 'dev', link)
    }
    await Promise.all([this.#startServer(), this.#startOrigin()])
    const bootstrap = await this.#startBootstrap()
    const network = ['[network]', `bootstrap = ["${bootstrap}"]`]
    const { price } = this.#options
    const credit = price === undefined ? [] : await this.#startIssuer()
    this.#write('me', [...network, ...credit])
    const { rateKbit = 4_000_000 } = this.#options
    for (const name of this.peerNames) {
      const ip = ADDRESSES[name]
      const listen = [`listen = "${ip}:51821"`, `control_listen = "${ip}:51820"`, `operator = "${name}"`]
      const asked = price === undefined ? [] : [`price = ${price}`, 'free_mib = 1']
      const limits = [`rate_kbit = ${rateKbit}`, 'volume_mib_per_day = 1000000']
      this.#write(name, [
        ...network,
        ...credit,
        '[relay]',
        ...listen,
        ...asked,
        '[peer]',
        ...limits,
        '[lab]',
        'observe = true',
      ])
    }
    await Promise.all(this.peerNames.map(name => this.startPeer(name)))
  }

  async #startServer(): Promise<void> {
    const { vpn } = this.#hosts
    await startServer(this.#directory, vpn, `ws${this.#suffix}`, this.#serverKeys, [this.#clientKeys.public])
    if (this.#options.measures) vpn.start('iperf3', ['-s', '-B', INSIDE])
  }

  async #startOrigin(): Promise<void> {
    const child = this.#hosts.web.start(process.execPath, [ORIGIN, ADDRESSES.web], {
      stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
    })
    const { http } = await new Promise<{ http: number }>(resolve => child.once('message', resolve as () => void))
    this.#origin = `http://${ADDRESSES.web}:${http}`
  }

  async #startBootstrap(): Promise<string> {
    this.#write('boot', ['[relay]', `control_listen = "${ADDRESSES.boot}:51820"`])
    const words = ['bootstrap', '--config', path.join(this.#directory, 'boot.toml'), '--state-dir', this.state('boot')]
    this.#hosts.boot.start(process.execPath, [COMMAND, ...words])
    return waitFor(async () => {
      const status = await callAction(socketPath(this.state('boot')), 'status', {}).catch(() => undefined)
      return status?.listening['control']?.[0]
    }, 'the bootstrap node')
  }

  /** Starts an issuer beside the bootstrap node; returns what everybody's configuration says of it. */
  async #startIssuer(): Promise<string[]> {
    const listen = `${ADDRESSES.boot}:8080`
    writeFileSync(this.#issuerFile, `[issuer]\nlisten = "${listen}"\n`)
    const { boot } = this.#hosts
    boot.start(process.execPath, [COMMAND, 'issuer', '--config', this.#issuerFile, '--state-dir', this.#issuerState])
    // It answers its operator before it answers others, and a peer that cannot ask it ends.
    const ask = `fetch('http://${listen}').then(() => process.exit(0), () => process.exit(1))`
    const answers = () =>
      boot.run(process.execPath, '--eval', ask).then(
        () => true as const,
        () => undefined,
      )
    await waitFor(answers, 'the issuer')
    const { id } = await this.issuerAdmin('id')
    return ['[credit]', `issuer = "http://${listen}"`, `issuer_id = "${String(id)}"`, 'issuer_access = "direct"']
  }

  /** `hoplite issuer admin …` beside the issuer; what it printed. */
  async issuerAdmin(...words: string[]): Promise<Record<string, unknown>> {
    const common = ['--config', this.#issuerFile, '--state-dir', this.#issuerState, '--json']
    const text = await this.#hosts.boot.run(process.execPath, COMMAND, 'issuer', 'admin', ...words, ...common)
    return JSON.parse(text) as Record<string, unknown>
  }

  get #issuerFile(): string {
    return path.join(this.#directory, 'issuer.toml')
  }

  get #issuerState(): string {
    return path.join(this.#directory, 'issuer')
  }

  #write(name: Name, lines: readonly string[]): void {
    const all = [...lines, ...(this.#options.measures ? [] : COLD)]
    writeFileSync(path.join(this.#directory, `${name}.toml`), `${all.join('\n')}\n`)
  }
}
