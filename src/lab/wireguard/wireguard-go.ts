// `wireguard-go` in a host of the laboratory: devices, and a VPN provider's server that translates addresses.

import { existsSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Host } from '../netns.ts'
import { waitFor } from '../testnet.ts'

/** The server's address inside the tunnel, and its client's. */
export const INSIDE = '10.66.0.1'
export const CLIENT_INSIDE = '10.66.0.2'
export const SERVER_PORT = 51_820

export interface Keys {
  readonly private: string
  readonly public: string
}

export function makeKeys(): Keys {
  const { privateKey, publicKey } = generateX25519()
  const base64 = (key: Uint8Array) => Buffer.from(key).toString('base64')
  return { private: base64(privateKey), public: base64(publicKey) }
}

/** Starts a device called `name` with the settings of `wg set`; `folder` has its key for a moment. */
export async function startWireGuardGo(
  folder: string,
  host: Host,
  name: string,
  privateKey: string,
  settings: readonly (readonly string[])[],
): Promise<void> {
  const keyFile = path.join(folder, `${name}.key`)
  writeFileSync(keyFile, privateKey, { mode: 0o600 })
  host.start('wireguard-go', ['-f', name], { env: { ...process.env, LOG_LEVEL: 'silent' } })
  await waitFor(async () => existsSync(`/var/run/wireguard/${name}.sock`) || undefined, `wireguard-go ${name}`)
  await host.run('wg', 'set', name, 'private-key', keyFile, ...settings.flat())
}

/** Starts a server called `name`; its clients, by their public keys, have 10.66.0.2 and so on. */
export async function startServer(
  folder: string,
  host: Host,
  name: string,
  keys: Keys,
  clients: readonly string[],
): Promise<void> {
  await startWireGuardGo(folder, host, name, keys.private, [
    ['listen-port', String(SERVER_PORT)],
    ...clients.map((key, i) => ['peer', key, 'allowed-ips', `10.66.0.${2 + i}/32`]),
  ])
  await host.ip('address', 'add', `${INSIDE}/24`, 'dev', name)
  await host.ip('link', 'set', name, 'mtu', '1420', 'up')
  await host.run('sysctl', '-qw', 'net.ipv4.ip_forward=1')
  const rules = `table ip nat { chain out { type nat hook postrouting priority 100; oifname "eth0" ip saddr 10.66.0.0/24 masquerade; }; }`
  await host.run('nft', rules)
}
