// A LAN that means ill: its router is a host of the laboratory that claims others' addresses, redirects, and gives leases with
// routes in them. The programs are real ones, dnsmasq and udhcpc; the LAN is 192.168.7.0/24, its router 192.168.7.1.

import type { ChildProcess } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Host } from '../netns.ts'
import { waitFor } from '../testnet.ts'

const REDIRECT = fileURLToPath(new URL('./redirect-process.ts', import.meta.url))
export const ROUTER = '192.168.7.1'
let claims = 0
/** Another address of the router, which pretends to be another router. */
export const OTHER_ROUTER = '192.168.7.66'

/** The router answers for these addresses of others, as if they were on the LAN, and keeps what it is sent. */
export async function claim(router: Host, link: string, addresses: readonly string[]): Promise<() => Promise<void>> {
  const table = `claim${claims++}`
  // Else it would remember these flows as its own, and not translate them once it passes them on again.
  const untracked = `type filter hook prerouting priority raw; ip daddr { ${addresses.join(', ')} } notrack;`
  await router.run('nft', `table ip ${table} { chain arriving { ${untracked} }; }`)
  for (const address of addresses) await router.ip('address', 'add', `${address}/32`, 'dev', link)
  return async () => {
    for (const address of addresses) await router.ip('address', 'del', `${address}/32`, 'dev', link)
    await router.run('nft', 'delete', 'table', 'ip', table)
  }
}

export interface Flow {
  readonly source: string
  readonly sourcePort: number
  readonly target: string
  readonly targetPort: number
}

/** The router says that a flow of a host, which listens to such, is to take another router: twice, to let it find that one. */
export async function redirect(
  host: Host,
  router: Host,
  { source, sourcePort, target, targetPort }: Flow,
): Promise<void> {
  await host.run('sysctl', '-qw', 'net.ipv4.conf.all.accept_redirects=1', 'net.ipv4.conf.eth0.accept_redirects=1')
  const words = [source, `${sourcePort}`, target, `${targetPort}`, OTHER_ROUTER]
  for (let i = 0; i < 2; i++) await router.run(process.execPath, '--no-warnings', REDIRECT, ...words)
}

/** What udhcpc calls with what it was given: a lease is taken as it is, with the routes of option 121 (RFC 3442). */
const TAKE_LEASE = `#!/bin/sh
case "$1" in
  deconfig) ip -4 address flush dev "$interface" ;;
  bound | renew)
    ip -4 address replace "$ip/$mask" dev "$interface"
    ip -4 route flush dev "$interface" proto dhcp
    set -- $staticroutes
    while [ $# -ge 2 ]; do
      if [ "$2" = 0.0.0.0 ]; then ip route replace "$1" dev "$interface" proto dhcp
      else ip route replace "$1" via "$2" dev "$interface" proto dhcp; fi
      shift 2
    done
    echo "$ip" >> "$LEASES" ;;
esac
`

/** A DHCP server on the LAN's router and a client on a host's `eth0`. */
export class Dhcp implements AsyncDisposable {
  static readonly programs = ['dnsmasq', 'udhcpc'] as const
  readonly #directory = mkdtempSync(path.join(tmpdir(), 'hoplite-dhcp-'))
  readonly #router: Host
  readonly #link: string
  readonly #host: Host
  #server: ChildProcess | undefined
  #client: ChildProcess | undefined

  constructor(host: Host, router: Host, link: string) {
    this.#host = host
    this.#router = router
    this.#link = link
  }

  /** Gives `address` from now on, with these routes, each a network and a router; 0.0.0.0 as the router means on the link. */
  async serve(address: string, routes: readonly (readonly [string, string])[]): Promise<void> {
    await end(this.#server)
    const words = [
      '--no-daemon',
      '--conf-file=/dev/null',
      '--port=0',
      '--user=root',
      `--interface=${this.#link}`,
      '--bind-interfaces',
      '--dhcp-authoritative',
      '--no-ping',
      `--pid-file=${path.join(this.#directory, 'server.pid')}`,
      `--dhcp-leasefile=${path.join(this.#directory, `leases-${address}`)}`,
      `--dhcp-range=${address},${address},255.255.255.0,2m`,
      `--dhcp-option=6,${ROUTER}`,
      `--dhcp-option=121,${routes.flat().join(',')}`,
    ]
    this.#server = this.#router.start('dnsmasq', words, { stdio: ['ignore', 'ignore', 'pipe'] })
    if (this.#server.stderr !== null) await once(this.#server.stderr, 'data')
  }

  /** The host takes a lease, or renews the one that it has; resolves when it was given one, with its address. */
  async take(): Promise<string> {
    const before = this.#leases().length
    if (this.#client === undefined) {
      const script = path.join(this.#directory, 'take-lease')
      writeFileSync(script, TAKE_LEASE, { mode: 0o755 })
      writeFileSync(this.#file, '')
      const words = ['-f', '-i', 'eth0', '-s', script, '-O', 'staticroutes', '-t', '20', '-T', '1', '-A', '1']
      const env = { ...process.env, LEASES: this.#file }
      this.#client = this.#host.start('udhcpc', words, { env })
    } else this.#client.kill('SIGUSR1')
    return waitFor(async () => this.#leases()[before], 'a lease')
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all([end(this.#client), end(this.#server)])
    rmSync(this.#directory, { recursive: true, force: true })
  }

  get #file(): string {
    return path.join(this.#directory, 'taken')
  }

  #leases(): string[] {
    return this.#client === undefined ? [] : readFileSync(this.#file, 'utf8').split('\n').filter(Boolean)
  }
}

async function end(child: ChildProcess | undefined): Promise<void> {
  if (child === undefined || child.exitCode !== null || child.signalCode !== null) return
  child.kill('SIGTERM')
  await once(child, 'exit')
}
