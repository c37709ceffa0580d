import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import { Secret } from '#bytes/secret.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { parseAddress } from '#wire/address.ts'
import { parsePrefix } from '#wire/ip-prefix.ts'
import { parseKey } from '#wire/wireguard-key.ts'
import { print } from '../output.ts'
import { formatWgShow, type ShownDevice, wantsColor } from '../wg-show.ts'

/** Shows our own WireGuard interfaces in the words of wg(8). */
export async function wgShow(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const interfaces = await interfacesOf(socketPath(stateDirectory(options.stateDir)))
  const isColored = wantsColor(process.stdout, process.env)
  const text = interfaces.map(found => formatWgShow(shown(found), Date.now(), isColored)).join('\n')
  print(
    options.json,
    { ok: true, interfaces },
    text.trimEnd() || 'This node has no WireGuard interface: `hoplite entry FILE` makes one.',
  )
}

/** A node that is no entry does not know the question, and has none. */
async function interfacesOf(socket: string): Promise<Output<'wgShow'>['interfaces']> {
  try {
    return (await callAction(socket, 'wgShow', {})).interfaces
  } catch (error) {
    if (error instanceof HopliteError && error.code === 'ACTION_UNKNOWN') return []
    throw error
  }
}

function shown({ name, publicKey, peers }: Output<'wgShow'>['interfaces'][number]): ShownDevice {
  return {
    name,
    publicKey: bytesOf(publicKey),
    privateKey: hidden(),
    listenPort: 0,
    fwmark: 0,
    peers: peers.map(peer => {
      const endpoint = peer.endpoint === undefined ? undefined : parseAddress(peer.endpoint)
      return {
        publicKey: bytesOf(peer.publicKey),
        ...(peer.hasPresharedKey && { presharedKey: hidden() }),
        ...(endpoint && { endpoint }),
        lastHandshakeUnixMs: peer.lastHandshakeUnixMs,
        rxBytes: peer.rxBytes,
        txBytes: peer.txBytes,
        persistentKeepaliveSeconds: peer.persistentKeepaliveSeconds,
        allowedIps: peer.allowedIps.flatMap(text => parsePrefix(text) ?? []),
        protocolVersion: 1,
      }
    }),
  }
}

/** A key that is there and is not told: it is shown as hidden. */
function hidden(): Secret {
  return new Secret(new Uint8Array(32))
}

function bytesOf(key: string): Uint8Array {
  return parseKey(key) ?? new Uint8Array(32)
}
