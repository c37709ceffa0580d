// A rendezvous server as a node: letters pass through its memory, and nothing is kept on disk.

import { HopliteError } from '#api/errors.ts'
import { serveApi } from '#api/server.ts'
import { type RendezvousServer, serveRendezvous } from '#discover/rendezvous-server.ts'
import { monotonicMs } from '#platform/clock.ts'
import { socketPath } from '#platform/state/directories.ts'
import { prepareStateDirectory } from '#platform/state/state-file.ts'
import { lockState } from '#platform/state/state-lock.ts'
import { formatAddress } from '#wire/address.ts'
import type { Config } from '../config.ts'
import { parseListen } from '../listen.ts'
import { own } from '../log.ts'
import { commonStatus, type RunOptions, untilAborted } from '../node.ts'

/** Runs a rendezvous server until `signal` is aborted. Throws what keeps it from starting. */
export async function runRendezvous(config: Config, options: RunOptions): Promise<void> {
  prepareStateDirectory(options.stateDir)
  const unlock = lockState(options.stateDir)
  const stop = new AbortController()
  const startedMs = monotonicMs()
  try {
    const server = await listen(config)
    const address = formatAddress({ ...parseListen(config.meet.listen), port: server.port })
    const api = await serveApi(
      {
        status: () => ({
          ...commonStatus(startedMs),
          role: 'rendezvous',
          state: 'ready',
          listening: { rendezvous: [address] },
          ...{ directory: 0, routes: [], sessions: 0, flows: 0, streams: 0 },
          counters: { ...server.size },
        }),
        down: () => {
          setImmediate(() => stop.abort())
          return { stopping: true }
        },
      },
      socketPath(options.stateDir),
    )
    options.log.info('rendezvous server is up', { address: own(address) })
    await untilAborted(AbortSignal.any([options.signal, stop.signal]))
    await Promise.allSettled([api.close(), server.close()])
  } finally {
    unlock()
  }
}

async function listen(config: Config): Promise<RendezvousServer> {
  const { listen: text, work_bits: workBits } = config.meet
  try {
    return await serveRendezvous({ ...parseListen(text), workBits, nowMs: Date.now })
  } catch (error) {
    const what = `listen on ${text}: ${(error as NodeJS.ErrnoException).code}`
    throw new HopliteError('ADDRESS_IN_USE', what, 'choose another address: listen in [meet]', error)
  }
}
