// Everything that tries to get out of a machine around its tunnel: datagrams, connections and echoes, to strangers, the LAN's
// router and its resolver, plain, marked as our own, bound to the link, in fragments, too large. The LAN is 192.168.7.0/24, its
// router 192.168.7.1.

import { CLIENT_MARK } from '#platform/linux/network/client-options.ts'
import type { Host } from '../netns.ts'

/** What a link needs to work at all, as a filter of tcpdump: ARP, neighbour discovery and the groups of it. */
export const LINK_ONLY = 'arp or (icmp6 and ip6[40] >= 133 and ip6[40] <= 136) or ip6 dst ff02::16'
/** How a capture shows what `sendMarker` sent. */
export const MARKER = /192\.168\.7\.1\.67: .*length 333/

const NOISE = `
  import dgram from 'node:dgram'
  import net from 'node:net'
  import { execFile } from 'node:child_process'
  const send = (to, port, size = 64, bound = undefined, from = undefined) => new Promise(resolve => {
    const socket = dgram.createSocket(to.includes(':') ? 'udp6' : 'udp4')
    const done = () => { socket.close(); resolve() }
    socket.on('error', done)
    const go = () => { socket.setBroadcast(true); socket.send(Buffer.alloc(size), port, to, done) }
    bound === undefined ? socket.bind(go) : socket.bind(bound, from, go)
  })
  const dial = (host, port, localAddress) => new Promise(resolve => {
    const socket = net.connect({ host, port, ...(localAddress ? { localAddress } : {}) })
    socket.on('error', () => resolve()).on('connect', () => { socket.destroy(); resolve() })
    setTimeout(() => { socket.destroy(); resolve() }, 150)
  })
  const ping = (...words) => new Promise(resolve => execFile('ping', ['-n', '-c', '1', '-W', '0.1', ...words], resolve))
  const [own, link] = process.argv.slice(1)
  await Promise.all([
    send('198.51.100.9', 9), send('198.51.100.9', 9, 3000), send('198.51.100.9', 9, 20000),
    send('192.168.7.1', 53), dial('192.168.7.1', 53), dial('192.168.7.1', 853), send('198.51.100.9', 53),
    send('192.0.2.1', 4000), send('192.0.2.1', 4001), dial('198.51.100.9', 443), dial('198.51.100.9', 443, own),
    send('224.0.0.251', 5353), send('255.255.255.255', 9), send('192.168.7.255', 137), send('192.168.7.1', 9),
    send('198.51.100.9', 9, 64, 0, own),
    send('2001:db8:9::9', 9), send('2001:db8:9::9', 9, 3000), send('2001:db8:7::1', 53), dial('2001:db8:9::9', 443),
    send('ff02::fb%' + link, 5353), send('fe80::1%' + link, 53),
    ping('198.51.100.9'), ping('-I', link, '198.51.100.9'), ping('-m', '${CLIENT_MARK}', '198.51.100.9'),
    ping('-s', '4000', '198.51.100.9'), ping('-M', 'do', '-s', '1400', '198.51.100.9'), ping('-r', '192.168.7.1'),
    ping('-6', '2001:db8:9::9'), ping('-6', '-I', link, '2001:db8:9::9'), ping('-6', '-s', '4000', '2001:db8:9::9'),
  ])
`

/** Tries all of it once from a link of a host. */
export async function makeNoise(host: Host, link = 'eth0'): Promise<void> {
  const addresses = await host.ip('-4', '-o', 'address', 'show', 'dev', link)
  await script(host, NOISE, /inet ([0-9.]+)/.exec(addresses)?.[1] ?? '127.0.0.1', link)
}

/** A packet that may always leave, so that whoever looks knows that all before it was seen: a lease is renewed. */
export async function sendMarker(host: Host): Promise<void> {
  await script(
    host,
    `import dgram from 'node:dgram'
     const socket = dgram.createSocket('udp4')
     socket.bind(68, () => socket.send(Buffer.alloc(333), 67, '192.168.7.1', () => socket.close()))`,
  )
}

function script(host: Host, text: string, ...args: string[]): Promise<string> {
  return host.run(process.execPath, '--no-warnings', '--input-type=module', '--eval', text, ...args)
}
