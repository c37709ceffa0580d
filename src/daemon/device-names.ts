// Where the names of one's devices are answered: at our own addresses in the devices' network. A device that goes to the internet
// through this one is answered all others too, by this machine's resolvers.

import { answerDns, type Names, ZONE } from '#meet/names.ts'
import { forwardDns, serveDnsConnections } from '#platform/dns-forward.ts'
import { serveDns } from '#platform/dns-server.ts'
import { type Log, own } from './log.ts'

const DNS_PORT = 53
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

  constructor(options: DeviceNamesOptions) {
    this.#options = options
  }

  /** Answers at these addresses from now on, in the place of those before; the system is told of the first where it can be. */
  async serve(link: string, hosts: readonly string[]): Promise<void> {
    const { log, names, answersFor } = this.#options
    try {
      await this.close()
      for (const host of hosts) {
        const listen = { host, port: DNS_PORT }
        const server = await serveDns(listen, (query, from) => {
          const isOther = answersFor(from) && !isOurs(query, names())
          return isOther ? forwardDns(query) : answerDns(query, names())
        })
        const connections = await serveDnsConnections(listen, answersFor)
        this.#open = [...this.#open, server, connections]
      }
      const { leadNames } = await import('#platform/linux/mesh-names.ts')
      if (!(await leadNames(link, hosts[0] ?? '', ZONE)))
        log.info('the system is not told of names', { zone: own(ZONE) })
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
