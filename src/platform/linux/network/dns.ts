// Names are asked through the tunnel: by whatever decides on this machine whom names are asked of.
//
//   resolved     systemd-resolved: the TUN gets the servers and all domains
//   resolvconf   resolvconf(8) or openresolv: the TUN's entry is exclusive
//   cover        a file of ours is mounted over /etc/resolv.conf: DHCP clients cannot replace it, and it is never changed
//   rewrite      /etc/resolv.conf is replaced and restored, where mounting is not allowed

import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { hasProgram } from '../programs.ts'
import type { Change } from './changes.ts'
import type { DnsOptions, DnsWay } from './client-options.ts'

const RESOLV_CONF = '/etc/resolv.conf'
const CAP_SYS_ADMIN = 1n << 21n

/** The changes that point this machine's name resolution at the servers; pure. */
export function planDns(tun: string, dns: DnsOptions): Change[] {
  const id = `dns ${tun}`
  const content = resolvConf(dns)
  switch (dns.way) {
    case 'resolved':
      return [
        {
          id,
          step: {
            kind: 'commands',
            do: [
              { run: ['resolvectl', 'dns', tun, ...dns.servers] },
              { run: ['resolvectl', 'domain', tun, '~.', ...dns.search] },
              { run: ['resolvectl', 'default-route', tun, 'yes'] },
            ],
            undo: [{ run: ['resolvectl', 'revert', tun] }],
          },
        },
      ]
    case 'resolvconf': {
      const add = { run: ['resolvconf', '-a', tun, '-m', '0', '-x'], input: content } as const
      return [{ id, step: { kind: 'commands', do: [add], undo: [{ run: ['resolvconf', '-d', tun, '-f'] }] } }]
    }
    case 'cover':
      return [
        {
          id,
          step: {
            kind: 'cover',
            file: RESOLV_CONF,
            source: path.join(dns.stateDirectory, `resolv-${tun}.conf`),
            content,
          },
        },
      ]
    case 'rewrite':
      return [{ id, step: { kind: 'file', file: RESOLV_CONF, content } }]
  }
}

/** How name resolution is best changed on this machine. */
export function detectDnsWay(): DnsWay {
  const current = existsSync(RESOLV_CONF) ? readFileSync(RESOLV_CONF, 'utf8') : undefined
  const asksResolved = /^nameserver\s+127\.0\.0\.5[34]\s*$/m.test(current ?? '')
  if (asksResolved && existsSync('/run/systemd/resolve') && hasProgram('resolvectl')) return 'resolved'
  if (hasProgram('resolvconf')) return 'resolvconf'
  return current !== undefined && mayMount() ? 'cover' : 'rewrite'
}

/** The text of a resolv.conf with these servers. */
export function resolvConf({ servers, search }: Pick<DnsOptions, 'servers' | 'search'>): string {
  const lines = servers.map(server => `nameserver ${server}`)
  if (search.length > 0) lines.push(`search ${search.join(' ')}`)
  return `${lines.join('\n')}\n`
}

/** proc(5): the effective capabilities. */
function mayMount(): boolean {
  const effective = /^CapEff:\s*([0-9a-f]+)$/m.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? '0'
  return (BigInt(`0x${effective}`) & CAP_SYS_ADMIN) !== 0n
}
