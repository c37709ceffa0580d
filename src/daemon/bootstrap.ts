// A bootstrap node: a server of the directory and nothing else. It carries no traffic.

import { systemRandom } from '#crypto/random.ts'
import { Directory } from '#discover/directory.ts'
import { startDiscovery } from '#discover/node.ts'
import { monotonicMs } from '#platform/clock.ts'
import { makeKeys, readKeys } from '#platform/state/keys.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import type { Address } from '#wire/address.ts'
import type { Config } from './config.ts'
import { letterNetwork } from './devices/letter-network.ts'
import { openFace } from './face.ts'
import { parseListen } from './listen.ts'
import { own } from './log.ts'
import { commonStatus, Laboratory, type RunOptions, untilAborted } from './node.ts'
import { announced, sendFrom } from './relay/relay-plan.ts'

/** Runs a bootstrap node until `signal` is aborted. Throws what keeps it from starting. */
export async function runBootstrap(config: Config, options: RunOptions): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  const stop = new AbortController()
  const startedMs = monotonicMs()
  try {
    const keys = readKeys(options.stateDir) ?? makeKeys(options.stateDir)
    const directory = new Directory()
    const laboratory = new Laboratory(config)
    const discovery = await startDiscovery({
      role: 'server',
      seed: keys.peerSeed,
      listen: [parseListen(config.relay.control_listen)],
      bootstrap: config.network.bootstrap,
      directory,
      allowPrivateAddresses: config.network.allow_private_addresses,
      nowMs: Date.now,
      random: systemRandom,
      letters: letterNetwork(config),
      ...announced(config),
      ...sendFrom(parseListen(config.relay.control_listen)),
      ...(laboratory.isOn && { onConnection: (from: Address) => laboratory.sawAddress(from) }),
    })
    const api = await openFace(config, options, {
      status: () => ({
        ...commonStatus(startedMs),
        role: 'bootstrap',
        state: 'ready',
        listening: { control: [...discovery.addresses] },
        directory: directory.size,
        routes: [],
        sessions: 0,
        flows: 0,
        streams: 0,
        counters: Object.fromEntries([...directory.offers].map(([result, count]) => [`offer.${result}`, count])),
      }),
      down: () => {
        setImmediate(() => stop.abort())
        return { stopping: true }
      },
      observe: ({ marker }) => laboratory.observe(marker, undefined),
      observation: () => laboratory.observation(undefined),
    })
    for (const address of discovery.addresses) options.log.info('bootstrap node is up', { address: own(address) })
    await untilAborted(AbortSignal.any([options.signal, stop.signal]))
    await Promise.allSettled([api.close(), discovery.close()])
  } finally {
    unlock()
  }
}
