// A client and an exit with their own TUNs, hops between them, and behind the exit an origin that knows the way to the exit's
// tunnel networks: each in a network namespace of its own, over the linux engine.
//
//   client ── switch ── hop 1 … hop n = exit ── origin

import assert from 'node:assert/strict'
import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Counter } from '#forward/counters.ts'
import { CLIENT_ADDRESS_4, CLIENT_ADDRESS_6 } from '#wire/tunnel-addresses.ts'
import type { Host, Namespaces } from '../netns.ts'
import type { NamedHop, TunnelNodePlan } from './tunnel-node-process.ts'

const NODE = fileURLToPath(new URL('tunnel-node-process.ts', import.meta.url))
const INSIDE = { 4: '10.64.0.1/24', 6: 'fd64::1/64' } as const

/** The longest packet of a flow, in bytes. */
export const TUNNEL_MTU = 1_280
export const ORIGIN = { 4: '10.40.0.2', 6: 'fd40::2' } as const

/** A node's process, and what it says. */
class TunnelNode {
  readonly host: Host
  readonly #child: ChildProcess
  readonly #lines: AsyncIterator<string, undefined>

  constructor(host: Host, plan: TunnelNodePlan) {
    this.host = host
    this.#child = host.start(process.execPath, ['--no-warnings', NODE, JSON.stringify(plan)], {
      stdio: ['pipe', 'pipe', 'inherit'],
    })
    this.#lines = createInterface({ input: this.#child.stdout ?? assert.fail() })[Symbol.asyncIterator]()
  }

  /** The next line; throws when the process has ended. */
  async line(): Promise<string> {
    const { value, done } = await this.#lines.next()
    return done ? assert.fail('the node has ended') : value
  }

  async counters(): Promise<Record<Counter, number>> {
    this.#child.stdin?.write('\n')
    return JSON.parse(await this.line())
  }

  /** Lets a worker of its data plane die. */
  crash(worker: number): void {
    this.#child.stdin?.write(`crash ${worker}\n`)
  }

  /** Ends the process at once. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }
}

export interface TunnelNet {
  readonly client: TunnelNode
  /** In the order of the route, the exit last; then a spare one. */
  readonly hops: readonly TunnelNode[]
  readonly exit: TunnelNode
  readonly origin: Host
}

export interface TunnelNetOptions {
  /** The exit included. */
  readonly hops: number
  /** Whether one more hop leads to the exit. */
  readonly hasSpare?: boolean
  /** What the TUNs themselves take. */
  readonly deviceMtu?: number
  readonly offload?: boolean
  /** What the client takes its link to carry; it then looks for the longest packet. */
  readonly link?: number
  /** The longest packet that the exit takes. */
  readonly exitMtu?: number
  /** Of the exit's data plane. */
  readonly exitWorkers?: number
}

/** Starts every node; packets flow when it returns. */
export async function startTunnelNet(lab: Namespaces, options: TunnelNetOptions): Promise<TunnelNet> {
  const { hops: count, hasSpare = false, deviceMtu = TUNNEL_MTU, offload = true, link, exitMtu = TUNNEL_MTU } = options
  const { exitWorkers } = options
  const [middle, origin] = [await lab.switch('switch'), await lab.host('origin')]
  const tun = { deviceMtu, offload }
  const hops: TunnelNode[] = []
  const named: NamedHop[] = []
  for (let i = 1; i <= count + (hasSpare ? 1 : 0); i++) {
    const { privateKey, publicKey } = generateX25519()
    const host = await lab.host(`hop${i}`)
    const address = `10.30.0.1${i}`
    await lab.plug(host, middle, `${address}/24`)
    if (i === count) await joinOrigin(lab, host, origin)
    const node = new TunnelNode(host, {
      host: address,
      key: Buffer.from(privateKey).toString('hex'),
      mtu: exitMtu,
      ...(i === count && exitWorkers !== undefined && { workers: exitWorkers }),
      ...(i === count && { tun: { ...tun, addresses: [INSIDE[4], INSIDE[6]], routes: [] } }),
    })
    assert.equal(await node.line(), 'ready')
    hops.push(node)
    named.push({ host: address, key: Buffer.from(publicKey).toString('hex') })
  }
  const host = await lab.host('client')
  await lab.plug(host, middle, '10.30.0.1/24')
  const addresses = [`${CLIENT_ADDRESS_4}/32`, `${CLIENT_ADDRESS_6}/128`]
  const client = new TunnelNode(host, {
    host: '10.30.0.1',
    mtu: TUNNEL_MTU,
    ...(link !== undefined && { link }),
    tun: { ...tun, addresses, routes: ['10.40.0.0/24', 'fd40::/64'] },
    route: named.slice(0, count),
    spare: named.slice(count),
  })
  assert.equal(await client.line(), 'ready')
  return { client, hops, exit: hops[count - 1] ?? assert.fail('a route without an exit'), origin }
}

/** The exit routes between its TUN and the origin; nothing is translated, so the origin sees the addresses of the tunnel. */
async function joinOrigin(lab: Namespaces, exit: Host, origin: Host): Promise<void> {
  const [near, far] = await lab.cable(exit, '10.40.0.1/24', origin, `${ORIGIN[4]}/24`)
  await exit.ip('address', 'add', 'fd40::1/64', 'dev', near, 'nodad')
  await origin.ip('address', 'add', `${ORIGIN[6]}/64`, 'dev', far, 'nodad')
  await origin.ip('route', 'add', '10.64.0.0/24', 'via', '10.40.0.1')
  await origin.ip('route', 'add', 'fd64::/64', 'via', 'fd40::1')
  await exit.run('sysctl', '-qw', 'net.ipv4.ip_forward=1', 'net.ipv6.conf.all.forwarding=1')
}
