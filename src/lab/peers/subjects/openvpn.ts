// OpenVPN over UDP: one tunnel to the first hop, with certificates that each side knows by their fingerprint, all else by default.

import { execFile } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { promisify } from 'node:util'
import { hasTool } from '../../skip.ts'
import type { LabProcess } from '../lab-process.ts'
import { ORIGIN_ADDRESS } from '../origin-address.ts'
import type { Subject } from '../subject.ts'
import { hopAddress, type PeerLab } from '../topology.ts'

const PORT = 1_194
const NETWORK = '10.63.0.0'
const CERTIFY_MS = 10_000

export const openvpn: Subject = {
  name: 'openvpn',
  title: 'OpenVPN',
  hops: 1,
  missing: () => ['openvpn', 'openssl'].map(tool => (hasTool(tool) ? undefined : `no ${tool} in PATH`)).find(Boolean),
  // It ends with a failure after it has told its version.
  version: () =>
    promisify(execFile)('openvpn', ['--version']).then(
      ({ stdout }) => versionIn(stdout),
      (error: { stdout?: string }) => versionIn(error.stdout ?? ''),
    ),
  start: async lab => {
    const folder = lab.folder('openvpn')
    const [ofHop, ofClient] = [await certify(lab, folder, 'hop'), await certify(lab, folder, 'client')]
    await lab.routeBack(`${NETWORK}/24`, 1)
    const common = ['--dev', 'tun', '--proto', 'udp', '--keepalive', '10', '60', '--verb', '1']
    const hop = lab.start(lab.hop(1), 'hop1', 'openvpn', [
      ...[...common, '--local', hopAddress(1), '--port', String(PORT), '--topology', 'subnet', '--dh', 'none'],
      ...['--server', NETWORK, '255.255.255.0', ...ofHop.files, '--peer-fingerprint', ofClient.fingerprint],
    ])
    let client: LabProcess | undefined
    const start = async () => {
      client = lab.start(lab.client, 'client', 'openvpn', [
        ...[...common, '--client', '--remote', hopAddress(1), String(PORT), '--nobind'],
        ...['--route', ORIGIN_ADDRESS, ...ofClient.files, '--peer-fingerprint', ofHop.fingerprint],
      ])
    }
    await start()
    return {
      access: { kind: 'ip' },
      processes: () => (client === undefined ? [hop] : [client, hop]),
      client: { start, stop: async () => client?.kill() },
    }
  },
}

async function certify(lab: PeerLab, folder: string, name: string) {
  const [certificate, key] = [path.join(folder, `${name}.crt`), path.join(folder, `${name}.key`)]
  const curve = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes']
  const words = ['req', '-x509', ...curve, '-days', '2', '-subj', `/CN=${name}`, '-keyout', key, '-out', certificate]
  await lab.run(lab.client, 'openssl', words, CERTIFY_MS)
  const fingerprint = new X509Certificate(readFileSync(certificate)).fingerprint256
  return { files: ['--cert', certificate, '--key', key], fingerprint }
}

function versionIn(text: string): string {
  return /OpenVPN [\d.]+/.exec(text)?.[0] ?? ''
}
