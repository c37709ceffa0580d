// What waits in the kernel at this machine's UDP sockets, from /proc/net/udp and /proc/net/udp6.
//
// A line has, after a heading: slot, local address:port, remote address:port, state, tx_queue:rx_queue, …, drops as its last
// word; numbers but the drops are hexadecimal (proc_pid_net(5)).

import { readFileSync } from 'node:fs'

export interface UdpQueues {
  /** Bytes of memory that datagrams take which nobody has read, or which are not sent. */
  readonly receiveBytes: number
  readonly transmitBytes: number
  /** Datagrams that came and found the queue full, since the sockets were opened. */
  readonly drops: number
}

/** The queues of all sockets bound to `port`, together; `undefined` where the system tells nothing of them. */
export function readUdpQueues(port: number): UdpQueues | undefined {
  const tables = ['/proc/self/net/udp', '/proc/self/net/udp6'].flatMap(file => {
    try {
      return [readFileSync(file, 'utf8')]
    } catch {
      return []
    }
  })
  return tables.length === 0 ? undefined : parseUdpQueues(tables.join('\n'), port)
}

export function parseUdpQueues(text: string, port: number): UdpQueues {
  const queues = { receiveBytes: 0, transmitBytes: 0, drops: 0 }
  const wanted = `:${port.toString(16).toUpperCase().padStart(4, '0')}`
  for (const line of text.split('\n')) {
    const words = line.trim().split(/\s+/)
    if (words[1]?.endsWith(wanted) !== true) continue
    const [transmit = '', receive = ''] = words[4]?.split(':') ?? []
    queues.transmitBytes += Number.parseInt(transmit, 16) || 0
    queues.receiveBytes += Number.parseInt(receive, 16) || 0
    queues.drops += Number(words.at(-1)) || 0
  }
  return queues
}
