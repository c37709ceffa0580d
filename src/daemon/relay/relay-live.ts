// What `hoplite reload` changes of a relay while its clients stay: how much it lends and to how many, and where an exit's streams go.

import type { HopLimits } from '#relay/hop.ts'
import type { Config } from '../config.ts'
import type { Peer } from '../peer/peer.ts'
import type { LiveKeys } from '../settings.ts'
import type { ExitDesk } from './exit-desk.ts'
import { exitPolicy } from './relay-plan.ts'

/** The hop machine reads them each time. */
export type RelayLimits = { -readonly [K in keyof HopLimits]: HopLimits[K] }

export interface RelayLiveOptions {
  /** What the relay goes by now, with its flags. */
  readonly config: () => Config
  /** Goes by another configuration, and tells others what changed. */
  readonly adopt: (config: Config) => void
  readonly limits: RelayLimits
  readonly peer: Peer | undefined
  /** An exit whose rules are its streams' alone. */
  readonly exit: ExitDesk | undefined
}

/** The keys that hold at once, and what makes each of them hold. */
export function relayLiveKeys({ config, adopt, limits, peer, exit }: RelayLiveOptions): LiveKeys {
  return {
    'relay.max_sessions': ({ relay }) => {
      limits.maxSessions = relay.max_sessions
    },
    'relay.max_flows': ({ relay }) => {
      limits.maxFlows = relay.max_flows
    },
    'relay.capacity_kbit': ({ relay: { capacity_kbit } }) =>
      adopt({ ...config(), relay: { ...config().relay, capacity_kbit } }),
    ...(peer && lendingKeys(peer, config, adopt)),
    ...(exit && exitKeys(exit, config, adopt)),
  }
}

function lendingKeys(peer: Peer, now: () => Config, adopt: (config: Config) => void): LiveKeys {
  const relimit = ({ peer: { rate_kbit, volume_mib_per_day, max_clients, hours } }: Config) => {
    adopt({ ...now(), peer: { ...now().peer, rate_kbit, volume_mib_per_day, max_clients, hours } })
    peer.relimit(now().peer)
  }
  const keys = ['rate_kbit', 'volume_mib_per_day', 'max_clients', 'hours']
  return Object.fromEntries(keys.map(key => [`peer.${key}`, relimit]))
}

function exitKeys(exit: ExitDesk, now: () => Config, adopt: (config: Config) => void): LiveKeys {
  const allow = ({ exit: { rules, allow_private } }: Config) => {
    adopt({ ...now(), exit: { ...now().exit, rules, allow_private } })
    exit.usePolicy(exitPolicy(now()))
  }
  return { 'exit.rules': allow, 'exit.allow_private': allow }
}
