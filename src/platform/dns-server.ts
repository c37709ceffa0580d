// A UDP socket that answers DNS questions with a pure function.

import { createSocket } from 'node:dgram'
import type { Address } from '#wire/address.ts'

export interface DnsServer {
  readonly address: Address
  close(): Promise<void>
}

/**
 * Listens at `listen`, or by a descriptor that is bound already; `answer` gives `undefined` for what deserves none. Rejects when
 * the address cannot be had.
 */
export async function serveDns(
  listen: Address | { readonly fd: number },
  answer: (query: Uint8Array) => Uint8Array | undefined,
): Promise<DnsServer> {
  const isGiven = 'fd' in listen
  const socket = createSocket(isGiven || listen.host.includes(':') ? 'udp6' : 'udp4')
  socket.on('message', (query, { address, port }) => {
    const response = answer(query)
    if (response !== undefined) socket.send(response, port, address)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    if (isGiven) socket.bind(listen, () => resolve())
    else socket.bind(listen.port, listen.host, () => resolve())
  })
  // A datagram that could not be sent is asked for again.
  socket.on('error', () => undefined)
  const { address: host, port } = socket.address()
  return {
    address: { host, port },
    close: () => new Promise(resolve => socket.close(() => resolve())),
  }
}
