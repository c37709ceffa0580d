// Our own WireGuard interface as others see it: `hoplite wg show`, and wg(8) over the UAPI socket.

import type { Output } from '#api/table.ts'
import { Secret } from '#bytes/secret.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import type { Command, Report, TunnelPeerReport, TunOffload } from '#forward/commands.ts'
import type { DeviceSnapshot, UapiDevice } from '#platform/uapi-server.ts'
import { type Address, formatAddress, parseIp } from '#wire/address.ts'
import { formatIp, type IpPrefix } from '#wire/ip-prefix.ts'
import { ERRNO } from '#wire/uapi.ts'
import type { WgQuickConfig } from '#wire/wg-quick.ts'

const PATIENCE_MS = 2_000

type Described = Output<'wgShow'>['interfaces'][number]

export interface TunnelViewOptions {
  readonly name: string
  readonly file: WgQuickConfig
  /** Where entry n leads: `servers[n - 1]`. */
  readonly servers: readonly Address[]
  readonly send: (...commands: readonly Command[]) => void
}

export class TunnelView implements UapiDevice {
  readonly #options: TunnelViewOptions
  readonly #publicKey: Uint8Array
  readonly #waiting = new Map<number, (peers: readonly TunnelPeerReport[]) => void>()
  #nextRequest = 1

  constructor(options: TunnelViewOptions) {
    this.#options = options
    this.#publicKey = x25519FromPrivate(options.file.interface.privateKey?.bytes ?? new Uint8Array(32)).publicKey
  }

  /** The command that brings the tunnel up on `tun`; `entries` names the one of each public key, in base64. */
  install(
    tun: { readonly fd: number; readonly offload: TunOffload },
    mtu: number,
    entries: ReadonlyMap<string, number>,
  ): Command {
    const { file } = this.#options
    const addresses = file.interface.addresses.map(({ address }) => parseIp(address))
    const address = addresses.find(bytes => bytes?.length === 4) ?? addresses[0]
    return {
      kind: 'installTunnel',
      tunnel: {
        fd: tun.fd,
        offload: tun.offload,
        mtu,
        ...(address && { address }),
        privateKey: Uint8Array.from(file.interface.privateKey?.bytes ?? []),
        peers: file.peers.map(peer => {
          const entry = entries.get(base64(peer.publicKey))
          return {
            publicKey: peer.publicKey,
            ...(peer.presharedKey && { presharedKey: Uint8Array.from(peer.presharedKey.bytes) }),
            ...(entry !== undefined && { entry }),
            persistentKeepaliveSeconds: peer.persistentKeepaliveSeconds,
            allowedIps: peer.allowedIps.map(({ address, prefix }) => ({
              address: parseIp(address) ?? new Uint8Array(4),
              bits: prefix,
            })),
          }
        }),
      },
    }
  }

  handleReport(report: Report): void {
    if (report.kind !== 'tunnelReport') return
    this.#waiting.get(report.request)?.(report.peers)
    this.#waiting.delete(report.request)
  }

  /** For wg(8), which root alone may ask, and which hides the keys. */
  async get(): Promise<DeviceSnapshot> {
    const peers = await this.#peers()
    const { privateKey } = this.#options.file.interface
    return {
      ...(privateKey && { privateKey }),
      listenPort: 0,
      fwmark: 0,
      peers: peers.map(peer => {
        const endpoint = this.#server(peer)
        return {
          publicKey: peer.publicKey,
          ...(peer.presharedKey && { presharedKey: new Secret(peer.presharedKey) }),
          ...(endpoint && { endpoint }),
          lastHandshakeUnixMs: peer.latestHandshakeUnixMs ?? 0,
          rxBytes: peer.rxBytes,
          txBytes: peer.txBytes,
          persistentKeepaliveSeconds: peer.persistentKeepaliveSeconds,
          allowedIps: peer.allowedIps.map(toPrefix),
          protocolVersion: 1,
        }
      }),
    }
  }

  /** What the tunnel is stands in its file: nothing is changed from outside. */
  set(): number {
    return ERRNO.invalid
  }

  async describe(): Promise<Described> {
    const peers = await this.#peers()
    return {
      name: this.#options.name,
      publicKey: base64(this.#publicKey),
      peers: peers.map(peer => {
        const endpoint = this.#server(peer)
        return {
          publicKey: base64(peer.publicKey),
          hasPresharedKey: peer.presharedKey !== undefined,
          ...(endpoint && { endpoint: formatAddress(endpoint) }),
          allowedIps: peer.allowedIps.map(toPrefix).map(({ address, prefix }) => `${address}/${prefix}`),
          lastHandshakeUnixMs: peer.latestHandshakeUnixMs ?? 0,
          rxBytes: peer.rxBytes,
          txBytes: peer.txBytes,
          persistentKeepaliveSeconds: peer.persistentKeepaliveSeconds,
        }
      }),
    }
  }

  #server({ entry }: TunnelPeerReport): Address | undefined {
    return entry === undefined ? undefined : this.#options.servers[entry - 1]
  }

  #peers(): Promise<readonly TunnelPeerReport[]> {
    const request = this.#nextRequest++
    return new Promise(resolve => {
      const timer = setTimeout(() => {
        this.#waiting.delete(request)
        resolve([])
      }, PATIENCE_MS)
      this.#waiting.set(request, peers => {
        clearTimeout(timer)
        resolve(peers)
      })
      this.#options.send({ kind: 'reportTunnel', request })
    })
  }
}

function toPrefix({ address, bits }: TunnelPeerReport['allowedIps'][number]): IpPrefix {
  return { address: formatIp(Uint8Array.from(address)), prefix: bits }
}

function base64(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64')
}
