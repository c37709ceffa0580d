// What the tunnels to one's devices are started with, by the configuration.

import { DEVICE_NETWORK, DEVICE_NETWORK_4, type DeviceAddresses } from '#meet/device-address.ts'
import { ZONE } from '#meet/names.ts'
import type { OwnDevice } from '#meet/own-device.ts'
import type { TurnServer } from '#path/turn-client.ts'
import { LINK_MARK } from '#platform/linux/network/client-options.ts'
import type { MeshSettings } from '#platform/paths/mesh-engine.ts'
import { readStateFile } from '#platform/state/state-file.ts'
import { type Address, parseAddress } from '#wire/address.ts'
import type { Config } from '../config.ts'
import type { Log } from '../log.ts'

const MAX_PASSWORD_BYTES = 1_024

export interface LinkSettingsOptions {
  readonly config: Config
  readonly log: Log
  readonly stunServers: readonly Address[]
  /** The network interface that there is to be, where the configuration wants one. */
  readonly tun: MeshSettings['tun'] | undefined
  /** Whether the machine's network is shut but for what was let through. */
  readonly isShut: boolean
}

export function linkSettings(
  self: OwnDevice,
  { ipv6, ipv4 }: DeviceAddresses,
  { config, log, stunServers, tun = { kind: 'make' }, isShut }: LinkSettingsOptions,
): MeshSettings {
  const { udp_port: port, interface: hasTun, map_port: mapsPorts } = config.meet
  return {
    ...{ privateKey: self.keys[0].tunnel.privateKey, ipv6, ipv4, network: DEVICE_NETWORK, port },
    ...{ network4: DEVICE_NETWORK_4, zone: ZONE },
    stunServers,
    turnServers: turnServers(config, log),
    // A router would be asked through the tunnel.
    mapsPorts: mapsPorts && !isShut,
    tun: hasTun && process.platform === 'linux' ? tun : { kind: 'none' },
    mark: LINK_MARK,
    engine: config.engine.kind,
  }
}

function turnServers(config: Config, log: Log): TurnServer[] {
  return config.meet.turn.flatMap(({ address, username, password_file: file }) => {
    const [password = ''] = Buffer.from(readStateFile(file, MAX_PASSWORD_BYTES) ?? [])
      .toString('utf8')
      .split('\n')
    if (password === '') log.warn('a TURN server is left out: its password file is not there, or empty')
    return password === '' ? [] : [{ address: parseAddress(address) as Address, username, password }]
  })
}
