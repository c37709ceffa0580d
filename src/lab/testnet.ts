// A real network on this machine: separate processes, each on its own loopback address. The demo, the scenarios and the
// benchmarks run on it. It works where all of 127/8 is loopback: on Linux and Windows.

import { type ChildProcess, fork } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { siblingModule } from '#platform/module-url.ts'
import { socketPath } from '#platform/state/directories.ts'

const START_MS = 120_000
const STOP_MS = 4_000
const POLL_MS = 40
const CLIENT_HOST = '127.10.0.1'
/** For a node whose speed is not measured. */
export const COLD = ['[engine]', 'warm_up = false'] as const

export interface RelayPlan {
  readonly host: string
  readonly operator: string
  readonly isExit: boolean
  /** Whether it lends its address to WireGuard tunnels too. */
  readonly isPeer?: boolean
  /** Two letters that it claims. */
  readonly country?: string
  /** Where it carries traffic; without it any port, another one after each start. */
  readonly port?: number
}

/** Six relays of four operators, each in a network of its own; two may exit. */
export const SIX_RELAYS: readonly RelayPlan[] = [
  { host: '127.21.0.1', operator: 'alder', isExit: false },
  { host: '127.22.0.1', operator: 'alder', isExit: false },
  { host: '127.23.0.1', operator: 'birch', isExit: false },
  { host: '127.24.0.1', operator: 'birch', isExit: false },
  { host: '127.25.0.1', operator: 'cedar', isExit: true },
  { host: '127.26.0.1', operator: 'dogwood', isExit: true },
]

/** Four of them, of four operators: a way of three hops, with one to spare. */
export const FOUR_RELAYS: readonly RelayPlan[] = SIX_RELAYS.filter((_, i) => i !== 1 && i !== 3)

export interface TestnetOptions {
  /** Relays have a door there. */
  readonly websocketPort?: number
  readonly relays: readonly RelayPlan[]
  readonly hops: number
  /** Port of the client's proxy on 127.0.0.1; 0 takes any. */
  readonly proxyPort: number
  readonly observe: boolean
  /** It finds every relay in the directory: none of its guards is an exit, so it may leave by each. */
  readonly clientComesLast?: boolean
  /** Whether their data planes warm up; for what is measured. */
  readonly warmsUp?: boolean
  /** What else is to be done while the client looks for a route. */
  readonly prepare?: (net: Testnet) => Promise<void>
  /** Further WireGuard servers that peers lead to. */
  readonly servers?: readonly string[]
  /** The issuer whose credits relays ask for, and what they ask. */
  readonly credit?: TestCredit
}

export interface TestCredit {
  readonly url: string
  readonly id: string
  readonly price: number
  readonly freeMib: number
  /** Whether wallets ask the issuer without a route: they have to where nothing is free and they have nothing yet. */
  readonly isDirect?: boolean
}

/** One process of the network. */
export interface TestNode {
  readonly name: string
  readonly role: 'bootstrap' | 'relay' | 'client' | 'origin'
  readonly host: string
  readonly process: ChildProcess
  readonly stateDir: string
  readonly log: () => string
}

/** Networks that run, so that a signal can end them. */
const running = new Set<Testnet>()

/** Ends every network when this process is told to end; otherwise their files would stay. */
export function stopNetworksOnSignal(): void {
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
    process.once(signal, () => {
      void Promise.allSettled([...running].map(net => net.stop())).then(() => process.exit(1))
    })
  }
}

export class Testnet {
  readonly directory: string
  readonly nodes: TestNode[] = []
  readonly #options: TestnetOptions
  originHttpPort = 0
  originUdpPort = 0
  readonly originHost = '127.99.0.1'
  #bootstrap: string[] = []

  private constructor(options: TestnetOptions) {
    this.#options = options
    this.directory = mkdtempSync(path.join(tmpdir(), 'hoplite-net-'))
  }

  /** Starts everything and waits until the client has a route. Throws, with nothing left behind, when it does not. */
  static async start(options: TestnetOptions, onStep: (step: string) => void = () => {}): Promise<Testnet> {
    const net = new Testnet(options)
    running.add(net)
    try {
      onStep('starting an origin and a bootstrap node')
      await Promise.all([net.#startOrigin(), net.#startBootstrap()])
      onStep(`starting ${options.relays.length} relays and a client`)
      for (const plan of options.relays) net.startRelay(plan)
      if (options.clientComesLast) await net.#waitForDirectory(options.relays.length)
      net.startClient()
      await Promise.all([net.waitReady(), options.prepare?.(net)])
      return net
    } catch (error) {
      await net.stop()
      throw error
    }
  }

  async #waitForDirectory(relays: number): Promise<void> {
    const bootstrap = this.#find('bootstrap')
    const isWhole = async () => ((await this.status(bootstrap))?.directory === relays ? true : undefined)
    await waitFor(isWhole, `${relays} relays in the directory`)
  }

  get client(): TestNode {
    return this.nodes.findLast(({ name }) => name === 'client') ?? this.#find('client')
  }

  get relays(): TestNode[] {
    return this.nodes.filter(({ role }) => role === 'relay')
  }

  /** The node whose addresses begin with the host of `address`. */
  at(address: string): TestNode | undefined {
    return this.nodes.find(({ host }) => address.startsWith(`${host}:`) || address === host)
  }

  startRelay(plan: RelayPlan): TestNode {
    const { credit, websocketPort } = this.#options
    const own = [
      `operator = "${plan.operator}"`,
      `listen = "${plan.host}:${plan.port ?? 0}"`,
      `control_listen = "${plan.host}:0"`,
      'capacity_kbit = 100000',
      ...(plan.country === undefined ? [] : [`country = "${plan.country}"`]),
      ...(credit === undefined ? [] : [`price = ${credit.price}`, `free_mib = ${credit.freeMib}`]),
      ...(websocketPort === undefined ? [] : [`websocket_listen = "${plan.host}:${websocketPort}"`]),
    ]
    const exit = plan.isExit
      ? ['[exit]', 'enabled = true', `allow_private = ${JSON.stringify(this.#privateTargets())}`]
      : []
    const peer = plan.isPeer ? ['[peer]', 'enabled = true', 'max_clients = 5', this.#servers()] : []
    return this.#startNode(`relay-${plan.host}`, 'relay', plan.host, ['relay'], ['[relay]', ...own, ...exit, ...peer])
  }

  /** Starts an entry that leads WireGuard's packets over one peer to the origin's UDP port. */
  startEntry(host = '127.11.0.1'): TestNode {
    const words = ['entry-daemon', '--listen', '127.0.0.1:0', '--to', `${this.originHost}:${this.originUdpPort}`]

    return this.#startNode('entry', 'client', host, words, ['[client]', `bind = "${host}"`])
  }

  /** Where peers lead their clients. */
  #servers(): string {
    const { servers = [] } = this.#options
    return `allow_private = ${JSON.stringify([`${this.originHost}:${this.originUdpPort}`, ...servers])}`
  }

  /** Where exits let their clients go. */
  #privateTargets(): string[] {
    const { credit } = this.#options
    const origins = [this.originHttpPort, this.originUdpPort].map(port => `${this.originHost}:${port}`)
    return [...origins, ...(credit === undefined ? [] : [new URL(credit.url).host])]
  }

  /** Starts a client, with more lines for its `[credit]`; one without UDP goes by relays' doors alone. */
  startClient(
    name = 'client',
    host = CLIENT_HOST,
    port = this.#options.proxyPort,
    more: string[] = [],
    hasUdp = true,
  ): TestNode {
    const { hops, websocketPort } = this.#options
    const websocket = hasUdp ? [] : ['websocket = "always"', `websocket_port = ${websocketPort}`]
    const lines = ['[client]', ...websocket, `bind = "${host}"`, `hops = ${hops}`, `proxy = "127.0.0.1:${port}"`]
    // What it becomes when its user shares.
    const shares = ['[relay]', `listen = "${host}:0"`, `control_listen = "${host}:0"`, 'operator = "elm"']
    return this.#startNode(name, 'client', host, ['daemon'], [...lines, ...shares, '[peer]', this.#servers()], more)
  }

  /** Waits until the client has a route and, with more than one hop, a spare way. */
  async waitReady(withSpare = false, client = this.client): Promise<Status> {
    const { process: child, log } = client
    let why = 'it does not answer'
    const ask = async () => {
      if (child.exitCode !== null) throw new Error(`the client ended with code ${child.exitCode}: ${log()}`)
      const status = await this.status(client)
      if (status !== undefined) why = status.problem ?? status.state
      if (status?.state !== 'ready') return undefined
      return withSpare && status.routes[0]?.spare === undefined ? undefined : status
    }
    return waitFor(ask, () => `the client to have a route (${why})`)
  }

  async status(node: TestNode): Promise<Status | undefined> {
    return callAction(socketPath(node.stateDir), 'status', {}).catch(() => undefined)
  }

  /** `host` and `port` of the client's proxy. */
  async proxy(client = this.client): Promise<{ host: string; port: number }> {
    const [address = ''] = (await this.status(client))?.listening['proxy'] ?? []
    return { host: '127.0.0.1', port: Number(address.split(':').at(-1)) }
  }

  /** Ends a node at once, as a power cut would. */
  async kill(node: TestNode): Promise<void> {
    const gone = exited(node.process)
    node.process.kill('SIGKILL')
    await gone
  }

  /** Ends every process and removes every file. */
  async stop(): Promise<void> {
    running.delete(this)
    const alive = this.nodes.filter(({ process }) => process.exitCode === null && process.signalCode === null)
    for (const { process } of alive) process.kill('SIGTERM')
    const late = setTimeout(() => {
      for (const { process } of alive) process.kill('SIGKILL')
    }, STOP_MS)
    await Promise.all(alive.map(({ process }) => exited(process)))
    clearTimeout(late)
    rmSync(this.directory, { recursive: true, force: true })
  }

  async #startOrigin(): Promise<void> {
    const child = this.#fork(
      'origin',
      'origin',
      this.originHost,
      fileURLToPath(siblingModule(import.meta.url, './origin')),
      [this.originHost],
    )
    const ports = await new Promise<{ http: number; udp: number }>((resolve, reject) => {
      child.process.once('message', message => resolve(message as { http: number; udp: number }))
      child.process.once('exit', () => reject(new Error(`the origin ended: ${child.log()}`)))
    })
    this.originHttpPort = ports.http
    this.originUdpPort = ports.udp
  }

  async #startBootstrap(): Promise<void> {
    const host = '127.20.0.1'
    const node = this.#startNode(
      'bootstrap',
      'bootstrap',
      host,
      ['bootstrap'],
      ['[relay]', `control_listen = "${host}:0"`],
    )
    const status = await waitFor(async () => {
      if (node.process.exitCode !== null) throw new Error(`the bootstrap node ended: ${node.log()}`)
      return this.status(node)
    }, 'the bootstrap node')
    this.#bootstrap = status.listening['control'] ?? []
  }

  #startNode(
    name: string,
    role: TestNode['role'],
    host: string,
    command: string[],
    lines: string[],
    more: string[] = [],
  ): TestNode {
    const stateDir = path.join(this.directory, name)
    // It is the node's own to write, whoever starts it, for settings that are changed in the dashboard; an entry has none.
    const config = path.join(command[0] === 'entry-daemon' ? this.directory : stateDir, `${name}.toml`)
    const network = ['[network]', 'allow_private_addresses = true', `bootstrap = ${JSON.stringify(this.#bootstrap)}`]
    const observe = `observe = ${this.#options.observe}`
    const laboratory = ['[lab]', observe, '[log]', 'level = "info"', ...(this.#options.warmsUp ? [] : COLD)]
    const { credit } = this.#options
    const issuer =
      credit && role !== 'bootstrap'
        ? [
            '[credit]',
            `issuer = "${credit.url}"`,
            `issuer_id = "${credit.id}"`,
            ...(credit.isDirect ? ['issuer_access = "direct"'] : []),
            ...more,
          ]
        : []
    mkdirSync(stateDir, { recursive: true, mode: 0o700 })
    writeFileSync(config, [...network, ...laboratory, ...issuer, ...lines, ''].join('\n'))
    const main = fileURLToPath(siblingModule(import.meta.url, '../cli/main'))
    const args = [...command, '--config', config, '--state-dir', stateDir]
    return this.#fork(name, role, host, main, args, stateDir)
  }

  #fork(name: string, role: TestNode['role'], host: string, script: string, args: string[], stateDir = ''): TestNode {
    const child = fork(script, args, {
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
      silent: true,
    })
    const lines: string[] = []
    for (const stream of [child.stdout, child.stderr]) {
      stream?.on('data', (chunk: Buffer) => {
        lines.push(chunk.toString('utf8'))
        if (lines.length > 400) lines.shift()
      })
    }
    const node: TestNode = { name, role, host, process: child, stateDir, log: () => lines.join('').slice(-20_000) }
    this.nodes.push(node)
    return node
  }

  #find(role: TestNode['role']): TestNode {
    const node = this.nodes.findLast(node => node.role === role)
    if (node === undefined) throw new Error(`there is no ${role}`)
    return node
  }
}

/** Asks until there is something; throws after two minutes. */
export async function waitFor<T>(
  ask: () => Promise<T | undefined>,
  what: string | (() => string),
  limitMs = START_MS,
): Promise<T> {
  const until = performance.now() + limitMs
  while (performance.now() < until) {
    const answer = await ask()
    if (answer !== undefined) return answer
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  throw new Error(`waited ${limitMs} ms in vain for ${typeof what === 'string' ? what : what()}`)
}

function exited(child: ChildProcess): Promise<void> {
  return new Promise(resolve => {
    if (child.exitCode !== null || child.signalCode !== null) resolve()
    else child.once('exit', () => resolve())
  })
}
