// The router of this machine, from the kernel's table of IPv4 routes.
//
//   /proc/net/route: one line a route; interface, destination, gateway, …, mask: numbers in hexadecimal, of the machine's byte
//   order (little-endian on every machine that Node 26 has binaries for, s390x excepted)

import { readFile } from 'node:fs/promises'

const ROUTES = '/proc/net/route'

/** Gateways of default routes, the nearest first; none where there is no such file. */
export async function defaultGateways(file = ROUTES): Promise<readonly string[]> {
  const text = await readFile(file, 'utf8').catch(() => '')
  return parseRoutes(text)
}

function parseRoutes(text: string): readonly string[] {
  const routes: { readonly gateway: string; readonly metric: number }[] = []
  for (const line of text.split('\n').slice(1)) {
    const [, destination = '', gateway = '', , , , metric = '', mask = ''] = line.trim().split(/\s+/)
    if (destination !== '00000000' || mask !== '00000000' || !/^[0-9A-F]{8}$/.test(gateway)) continue
    if (gateway === '00000000') continue
    routes.push({ gateway: Buffer.from(gateway, 'hex').toReversed().join('.'), metric: Number(metric) })
  }
  return routes.toSorted((a, b) => a.metric - b.metric).map(({ gateway }) => gateway)
}
