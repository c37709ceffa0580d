// Where the names of one's devices are answered: at our own addresses in the devices' network. A device that goes to the internet
// through this one is answered all others too, by this machine's resolvers.

import { answerDns, type Names, ZONE } from '#meet/names.ts'
import { forwardDns, serveDnsConnections } from '#platform/dns-forward.ts'
import { serveDns } from '#platform/dns-server.ts'
import type { MeshNames } from '#platform/paths/mesh-engine.ts'
import { type Log, own } from '../log.ts'

const REFUSED = 5

export interface DeviceNamesOptions {
  readonly log: Log
  readonly names: () => Names
  /** Whether who asks from this address is answered other names too. */
  readonly answersFor: (address: string) => boolean
}

export class DeviceNames {
  readonly #options: DeviceNamesOptions
  #open: readonly { close(): Promise<void> }[] = []
  #isTold = false

  constructor(options: DeviceNamesOptions) {
    this.#options = options
  }

  /** Whether the system asks us for the devices' names. */
  get isTold(): boolean {
    return this.#isTold
  }

  /** Answers at these places from now on, in the place of those before. */
  async serve(openNames: () => Promise<MeshNames>): Promise<void> {
    const { log, names, answersFor } = this.#options
    try {
      await this.close()
      const { places, isTold } = await openNames()
      if (places.length === 0) throw Object.assign(new Error(), { code: 'EACCES' })
      for (const { udp, tcp, isIpv6 } of places) {
        const server = await serveDns({ fd: udp, isIpv6 }, (query, from) => {
          const isOther = answersFor(from) && !isOurs(query, names())
          return isOther ? forwardDns(query) : answerDns(query, names())
        })
        const connections = await serveDnsConnections({ fd: tcp }, answersFor)
        this.#open = [...this.#open, server, connections]
      }
      this.#isTold = isTold
      if (!isTold) log.info('the system is not told of names', { zone: own(ZONE) })
    } catch (error) {
      log.warn('names are not answered', { why: own((error as NodeJS.ErrnoException).code ?? '') })
    }
  }

  async close(): Promise<void> {
    const open = this.#open
    this.#open = []
    await Promise.allSettled(open.map(each => each.close()))
  }
}

/** Whether a question is for a name of a device: what else would be refused here. */
function isOurs(query: Uint8Array, names: Names): boolean {
  const answer = answerDns(query, names)
  return answer === undefined || ((answer[3] ?? 0) & 15) !== REFUSED
}
