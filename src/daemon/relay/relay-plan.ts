// What a relay's configuration says, read: its addresses, where it lets traffic go, and how much it takes on.

import { availableParallelism, networkInterfaces } from 'node:os'
import { HopliteError } from '#api/errors.ts'
import type { PortPlan } from '#forward/commands.ts'
import { MAX_WORKERS } from '#forward/workers.ts'
import { MeetingRoom } from '#relay/meeting-room.ts'
import { ExitStreams } from '#stream/exit.ts'
import { ExitPolicy, type ExitRule } from '#stream/exit-policy.ts'
import { type Address, isWildcard, parseAddress, parseIp } from '#wire/address.ts'
import type { PortRange, Role } from '#wire/descriptor.ts'
import type { Config } from '../config.ts'
import { parseListen } from '../listen.ts'
import type { Laboratory } from '../node.ts'
import { exitRules } from './exit-rules.ts'
import type { ExitTunnel } from './exit-tunnel.ts'

/** A relay dials from the address that it listens on, if that is one. */
export function sendFrom({ host }: Address): { readonly sendFrom?: string } {
  return isWildcard(host) ? {} : { sendFrom: host }
}

/** Every address of this machine, whichever interface has it. */
function machineAddresses(): string[] {
  return Object.values(networkInterfaces()).flatMap(addresses =>
    (addresses ?? []).map(({ address }) => address.replace(/%.*$/, '')),
  )
}

/** Where clients reach it. Throws CONFIG_INVALID where nothing says so. */
export function advertised(config: Config, bound?: Address): Address[] {
  const given = config.relay.advertise.flatMap(text => parseAddress(text) ?? [])
  if (given.length > 0) return given
  const listen = bound ?? parseListen(config.relay.listen)
  if (isWildcard(listen.host)) {
    throw new HopliteError(
      'CONFIG_INVALID',
      'advertise the relay: it listens on every address and does not know which one others reach',
      'set advertise = ["PUBLIC-IP:PORT"] in [relay]',
    )
  }
  return [listen]
}

/** What others are told of the control port: multiaddrs without a peer id; undefined where only the system knows the port. */
export function announced(config: Config): { readonly announce?: readonly string[] } {
  const { control_listen, control_advertise, advertise } = config.relay
  const listen = parseListen(control_listen)
  if (listen.port === 0) return {}
  const relayed = advertise.flatMap(text => parseAddress(text)?.host ?? [])
  const own = isWildcard(listen.host) ? relayed : [listen.host]
  const hosts = control_advertise.length > 0 ? control_advertise : own
  if (hosts.length === 0) return {}
  const announce = hosts.map(host => `/${parseIp(host)?.length === 4 ? 'ip4' : 'ip6'}/${host}/tcp/${listen.port}`)
  return { announce }
}

/** Where this machine lets others' traffic go, by rules beyond the one that nothing private and nothing of its own is reached. */
export function policyOf(
  rules: readonly ExitRule[],
  allowPrivate: readonly string[],
  ownHosts: readonly string[],
): ExitPolicy {
  return new ExitPolicy({
    rules,
    ownAddresses: [...ownHosts, ...machineAddresses()],
    allowPrivate: allowPrivate.flatMap(text => parseAddress(text) ?? []),
  })
}

/** The tunnel of an exit as the data plane's port. */
export function portOf({ fds: [fd = -1, ...moreFds], offload, mtu }: ExitTunnel): PortPlan {
  return { fd, moreFds, offload, mtu }
}

/** How many workers the data plane may have: one for each core; for who lends and does nothing else, for each Gbit/s of that. */
export function workersFor({ peer }: Config, roles: readonly Role[]): number {
  const cores = Math.min(availableParallelism(), MAX_WORKERS)
  return roles.every(role => role === 'peer') ? Math.min(cores, Math.ceil(peer.rate_kbit / 1_000_000)) : cores
}

/** Where an exit's clients may go. */
export function exitPolicy(config: Config): ExitPolicy {
  const own = advertised(config).map(({ host }) => host)
  return policyOf(exitRules(config), config.exit.allow_private, own)
}

/** What carries an exit's streams. */
export function makeExit(config: Config, laboratory: Laboratory): ExitStreams {
  return new ExitStreams({
    policy: exitPolicy(config),
    ...sendFrom(parseListen(config.relay.listen)),
    maxStreamsPerSession: config.exit.max_streams_per_client,
    ...(laboratory.isOn && {
      watch: (address: Address, bytes: Uint8Array) => {
        laboratory.sawAddress(address)
        laboratory.sawPlain(bytes)
      },
    }),
  })
}

/** The ports that rules without a network leave open: what clients choose exits by. */
export function exitPorts(config: Config): PortRange[] {
  const ranges: PortRange[] = []
  const isOpen = (port: number) => {
    for (const { action, network, from_port, to_port } of config.exit.rules) {
      if (network === undefined && port >= (from_port ?? 1) && port <= (to_port ?? 65_535)) return action === 'allow'
    }
    return port !== 25
  }
  for (let port = 1; port <= 65_535; port++) {
    if (!isOpen(port)) continue
    const last = ranges.at(-1)
    if (last !== undefined && last.to === port - 1) ranges[ranges.length - 1] = { from: last.from, to: port }
    else ranges.push({ from: port, to: port })
  }
  return ranges.slice(0, 32)
}

/** Where clients meet. */
export function makeRoom({ relay }: Config): MeetingRoom {
  return new MeetingRoom({ maxFlows: 2 * relay.max_meetings, bytesPerSecond: (relay.meeting_kbit * 1000) / 8 })
}
