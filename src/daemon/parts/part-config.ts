// What a part of a daemon runs with: the daemon's configuration, without what a part has none of.

import { HopliteError } from '#api/errors.ts'
import type { Config } from '../config.ts'

/** Throws CONFIG_INVALID where nothing says how others could be found: no wait would change that. */
export function configForPart(config: Config): Config {
  if (config.network.bootstrap.length === 0)
    throw new HopliteError(
      'CONFIG_INVALID',
      'find others: no bootstrap node is set',
      'set bootstrap in [network], among the settings, and start Hoplite again',
    )
  return { ...config, api: { listen: '127.0.0.1:0' }, metrics: { listen: '' } }
}
