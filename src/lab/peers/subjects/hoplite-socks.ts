import type { LabProcess } from '../lab-process.ts'
import type { Subject } from '../subject.ts'
import { HopliteNetwork, hopliteVersion } from './hoplite-network.ts'

const PROXY = { kind: 'socks', host: '127.0.0.1', port: 1_080, hasUsers: false } as const

/** Hoplite over some hops, through the client's SOCKS proxy. */
export function hopliteSocks(hops: number): Subject {
  return {
    name: `hoplite-socks-${hops}`,
    title: `Hoplite, SOCKS, ${hops} ${hops === 1 ? 'hop' : 'hops'}`,
    hops,
    missing: () => undefined,
    version: hopliteVersion,
    start: async lab => {
      const network = new HopliteNetwork(lab)
      await network.start()
      const lines = ['[client]', `hops = ${hops}`, `proxy = "${PROXY.host}:${PROXY.port}"`]
      let client: LabProcess | undefined
      const start = async () => {
        client = network.run('client', ['daemon'], lines)
        await network.ready(hops)
      }
      await start()
      return {
        access: PROXY,
        processes: () => [...(client?.isRunning ? [client] : []), ...network.running],
        client: { start, stop: async () => client?.kill() },
        ...(hops > 1 && { killHop: () => network.killHop(hops) }),
      }
    },
  }
}
