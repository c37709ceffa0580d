// Where an exit lets its clients go, by its configuration.

import type { ExitRule } from '#stream/exit-policy.ts'
import type { Config } from '../config.ts'

export function exitRules(config: Config): ExitRule[] {
  return config.exit.rules.map(({ action, network, from_port, to_port }) => ({
    action,
    ...(network !== undefined && { network }),
    ...((from_port ?? to_port) !== undefined && { ports: { from: from_port ?? 1, to: to_port ?? 65_535 } }),
  }))
}
