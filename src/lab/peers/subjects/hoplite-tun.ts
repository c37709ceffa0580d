import type { Subject } from '../subject.ts'
import { HOPLITE, HopliteNetwork, hopliteVersion } from './hoplite-network.ts'

const COMMAND_MS = 60_000

/** Hoplite over some hops, through a TUN on the client and on the exit: the whole machine's traffic. */
export function hopliteTun(hops: number): Subject {
  return {
    name: `hoplite-tun-${hops}`,
    title: `Hoplite, TUN, ${hops} ${hops === 1 ? 'hop' : 'hops'}`,
    hops,
    missing: () => undefined,
    version: hopliteVersion,
    start: async lab => {
      const network = new HopliteNetwork(lab)
      await network.start('--tun')
      const flags = network.flags('client', ['[client]', `hops = ${hops}`])
      const command = (verb: string, ...more: string[]) =>
        lab.run(lab.client, process.execPath, [...process.execArgv, HOPLITE, verb, ...more, ...flags], COMMAND_MS)
      let pid: number | undefined
      const start = async () => {
        await command('up', '--tun')
        pid = (await network.status('client'))?.pid
        await network.ready(hops)
      }
      const stop = async () => {
        pid = undefined
        await command('down')
      }
      lab.defer(stop)
      await start()
      return {
        access: { kind: 'ip' },
        processes: () => [...(pid === undefined ? [] : [{ name: 'client', pid }]), ...network.running],
        client: { start, stop },
        ...(hops > 1 && { killHop: () => network.killHop(hops) }),
      }
    },
  }
}
