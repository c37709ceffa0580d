// A UDP socket that answers DNS questions with a function, at once or later.

import { createSocket } from 'node:dgram'
import type { Address } from '#wire/address.ts'

export interface DnsServer {
  readonly address: Address
  close(): Promise<void>
}

type Answer = Uint8Array | undefined

/** An address, or a descriptor that is bound to one already. */
export type DnsPlace = Address | { readonly fd: number; readonly isIpv6: boolean }

/** Listens there; `answer` gives `undefined` for what deserves none. Rejects when the address cannot be had. */
export async function serveDns(
  listen: DnsPlace,
  answer: (query: Uint8Array, from: string) => Answer | Promise<Answer>,
): Promise<DnsServer> {
  let isOpen = true
  const isIpv6 = 'fd' in listen ? listen.isIpv6 : listen.host.includes(':')
  const socket = createSocket(isIpv6 ? 'udp6' : 'udp4')
  socket.on('message', (query, { address, port }) => {
    const respond = (response: Answer) => {
      // It may have been closed meanwhile.
      if (response !== undefined && isOpen) socket.send(response, port, address)
    }
    const response = answer(query, address)
    if (response instanceof Promise) void response.then(respond, () => undefined)
    else respond(response)
  })
  await new Promise<void>((resolve, reject) => {
    socket.once('error', reject)
    if ('fd' in listen) socket.bind({ fd: listen.fd }, () => resolve())
    else socket.bind(listen.port, listen.host, () => resolve())
  })
  // A datagram that could not be sent is asked for again.
  socket.on('error', () => undefined)
  const { address: host, port } = socket.address()
  return {
    address: { host, port },
    close: () =>
      new Promise(resolve => {
        isOpen = false
        socket.close(() => resolve())
      }),
  }
}
