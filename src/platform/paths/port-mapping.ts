// Asks the router at home for a port: UPnP IGD by a library, PCP and NAT-PMP by `path/port-control.ts`, whichever answers first.
// What it opens is one candidate of many, so nothing waits for it and nothing fails without it.
//
// What a router says is a claim, which checks prove. Bounds: 4 routers; leases are renewed for as long as this lives and given
// back at the end. (The library cannot give one back that it has by UPnP, which is why those are short.)

import dgram from 'node:dgram'
import type { Gateway } from '@achingbrain/nat-port-mapper'
import { systemRandom } from '#crypto/random.ts'
import { PortControl } from '#path/port-control.ts'
import { type Address, parseIp } from '#wire/address.ts'
import { monotonicMs } from '../clock.ts'
import { defaultGateways } from '../default-gateway.ts'

export interface PortMapperOptions {
  /** The UDP port that packets are to come to. */
  readonly port: number
  /** Addresses of the machine that a router may send to. */
  readonly hosts: () => readonly string[]
  /** Hears of the port that was opened, and of `undefined` when it is gone. */
  readonly onMapping: (address: Address | undefined) => void
}

const SEARCH_MS = 10_000
const CLOSE_MS = 2_000
const AGAIN_MS = 600_000
const MAX_ROUTERS = 4
const UPNP_LEASE_MS = 1_200_000
const DESCRIPTION = 'hoplite'

export class PortMapper implements AsyncDisposable {
  readonly #options: PortMapperOptions
  #stop = new AbortController()
  #gateways: Gateway[] = []
  #controls: (() => void)[] = []
  #mapped: Address | undefined
  #timer: NodeJS.Timeout | undefined

  constructor(options: PortMapperOptions) {
    this.#options = options
  }

  /** Asks, now and every ten minutes until one agrees; to be called again after a change of network. */
  async start(): Promise<void> {
    await this.#end()
    const { signal } = (this.#stop = new AbortController())
    const again = async () => {
      await Promise.all([this.#askUpnp(signal), this.#askRouters(signal)])
      if (signal.aborted || this.#mapped !== undefined) return
      this.#timer = setTimeout(() => void again(), AGAIN_MS)
      this.#timer.unref()
    }
    void again()
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#end()
  }

  async #askUpnp(signal: AbortSignal): Promise<void> {
    // A hundred files, which most nodes never need.
    const { upnpNat } = await import('@achingbrain/nat-port-mapper')
    const client = upnpNat({ ttl: UPNP_LEASE_MS, description: DESCRIPTION })
    try {
      for await (const gateway of client.findGateways({ signal: AbortSignal.any([signal, timeout()]) })) {
        if (signal.aborted || this.#mapped !== undefined || this.#gateways.length === MAX_ROUTERS) return
        this.#gateways.push(gateway)
        await this.#askGateway(gateway, signal)
      }
    } catch {
      // No such router, or one that says no.
    }
  }

  async #askGateway(gateway: Gateway, signal: AbortSignal): Promise<void> {
    const { port, hosts } = this.#options
    for (const host of hosts()) {
      if (host.includes(':') !== (gateway.family === 'IPv6') || this.#mapped !== undefined) continue
      const options = { protocol: 'udp' as const, signal: AbortSignal.any([signal, timeout()]) }
      const mapping = await gateway.map(port, host, options).catch(() => undefined)
      if (mapping !== undefined) this.#take({ host: mapping.externalHost, port: mapping.externalPort }, signal)
    }
  }

  async #askRouters(signal: AbortSignal): Promise<void> {
    const host = this.#options.hosts().find(host => !host.includes(':'))
    const routers = host === undefined ? [] : await defaultGateways()
    for (const router of routers.slice(0, MAX_ROUTERS)) {
      if (signal.aborted || this.#controls.length === MAX_ROUTERS) return
      this.#controls.push(await this.#control(router, host as string, signal))
    }
  }

  /** Drives one machine; gives what ends it. */
  async #control(router: string, host: string, signal: AbortSignal): Promise<() => void> {
    const socket = dgram.createSocket('udp4')
    socket.on('error', () => undefined)
    await new Promise<void>(resolve => void socket.bind(0, resolve))
    socket.unref()
    let timer: NodeJS.Timeout | undefined
    const control = new PortControl({
      router,
      host,
      port: this.#options.port,
      random: systemRandom,
      send: (to, bytes) => socket.send(bytes, to.port, to.host, () => undefined),
    })
    const settle = () => {
      clearTimeout(timer)
      if (signal.aborted) return
      if (control.mapped !== undefined) this.#take(control.mapped, signal)
      const waitMs = Math.min(control.deadline() - monotonicMs(), AGAIN_MS)
      timer = setTimeout(() => {
        control.handleDeadline(monotonicMs())
        settle()
      }, waitMs)
      timer.unref()
    }
    socket.on('message', (bytes, { address, port }) => {
      control.handlePacket(bytes, { host: address, port }, monotonicMs())
      settle()
    })
    control.begin(monotonicMs())
    settle()
    return () => {
      clearTimeout(timer)
      control.close()
      // What gives the port back is to leave before the socket goes.
      setTimeout(() => socket.close(), 10)
    }
  }

  #take(address: Address, signal: AbortSignal): void {
    if (signal.aborted || this.#mapped !== undefined || parseIp(address.host) === undefined) return
    this.#mapped = address
    this.#options.onMapping(address)
  }

  async #end(): Promise<void> {
    this.#stop.abort()
    clearTimeout(this.#timer)
    const gateways = this.#gateways.splice(0)
    for (const end of this.#controls.splice(0)) end()
    if (this.#mapped !== undefined) this.#options.onMapping(undefined)
    this.#mapped = undefined
    const signal = AbortSignal.timeout(CLOSE_MS)
    await Promise.allSettled(gateways.map(gateway => gateway.stop({ signal })))
  }
}

function timeout(): AbortSignal {
  return AbortSignal.timeout(SEARCH_MS)
}
