// nebula: one tunnel from the client to the first hop, which serves the origin's address ("unsafe_routes"). Its settings are the
// defaults, but for the routes and a firewall that lets everything through.

import { execFile } from 'node:child_process'
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { hasTool } from '../../skip.ts'
import type { LabProcess } from '../lab-process.ts'
import { ORIGIN_ADDRESS } from '../origin-address.ts'
import type { Subject } from '../subject.ts'
import { hopAddress, type PeerLab } from '../topology.ts'

const PORT = 4_242
const HOP = '10.62.0.1'
const CLIENT = '10.62.0.2'
const CERTIFY_MS = 10_000
const ANYTHING = [{ port: 'any', proto: 'any', host: 'any' }]

export const nebula: Subject = {
  name: 'nebula',
  title: 'nebula',
  hops: 1,
  missing: () =>
    ['nebula', 'nebula-cert'].map(tool => (hasTool(tool) ? undefined : `no ${tool} in PATH`)).find(Boolean),
  version: async () => (await promisify(execFile)('nebula', ['-version'])).stdout.replace('Version:', 'nebula').trim(),
  start: async lab => {
    const folder = lab.folder('nebula')
    await certify(lab, folder)
    const relay = configure(folder, 'hop', {
      static_host_map: {},
      lighthouse: { am_lighthouse: true },
      listen: { host: hopAddress(1), port: PORT },
    })
    const settings = configure(folder, 'client', {
      static_host_map: { [HOP]: [`${hopAddress(1)}:${PORT}`] },
      lighthouse: { am_lighthouse: false, hosts: [HOP] },
      listen: { host: '0.0.0.0', port: 0 },
      tun: { dev: 'nebula', unsafe_routes: [{ route: `${ORIGIN_ADDRESS}/32`, via: HOP, mtu: 1_300 }] },
    })
    await lab.routeBack(`${CLIENT}/32`, 1)
    const hop = lab.start(lab.hop(1), 'hop1', 'nebula', ['-config', relay])
    let client: LabProcess | undefined
    const start = async () => {
      client = lab.start(lab.client, 'client', 'nebula', ['-config', settings])
    }
    await start()
    return {
      access: { kind: 'ip' },
      processes: () => (client === undefined ? [hop] : [client, hop]),
      client: { start, stop: async () => client?.kill() },
    }
  },
}

/** An authority, and a certificate for each side; the hop's covers the origin. */
async function certify(lab: PeerLab, folder: string): Promise<void> {
  const file = (name: string) => path.join(folder, name)
  const authority = ['-out-crt', file('ca.crt'), '-out-key', file('ca.key')]
  await lab.run(lab.client, 'nebula-cert', ['ca', '-name', 'laboratory', ...authority], CERTIFY_MS)
  const sign = (name: string, address: string, ...more: string[]) => {
    const files = ['-out-crt', file(`${name}.crt`), '-out-key', file(`${name}.key`)]
    const by = ['-ca-crt', file('ca.crt'), '-ca-key', file('ca.key')]
    const words = ['sign', '-name', name, '-ip', `${address}/24`, ...more, ...by, ...files]
    return lab.run(lab.client, 'nebula-cert', words, CERTIFY_MS)
  }
  await sign('hop', HOP, '-subnets', `${ORIGIN_ADDRESS}/32`)
  await sign('client', CLIENT)
}

/** Writes a configuration, as JSON, which is YAML too; gives its file. */
function configure(folder: string, name: string, own: object): string {
  const file = path.join(folder, `${name}.yml`)
  const pki = {
    ca: path.join(folder, 'ca.crt'),
    cert: path.join(folder, `${name}.crt`),
    key: path.join(folder, `${name}.key`),
  }
  const common = { pki, tun: { dev: 'nebula' }, firewall: { outbound: ANYTHING, inbound: ANYTHING } }
  writeFileSync(file, JSON.stringify({ ...common, ...own }), { mode: 0o600 })
  return file
}
