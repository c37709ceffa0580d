// UDP sockets as the data plane sees them; each engine brings its own.

import type { Address } from '#wire/address.ts'

/** How a socket is opened. Host names are never looked up: every host is an IP literal. */
export interface SocketPlan {
  /** The address to bind; without it the system chooses when the socket is connected. */
  readonly bind?: Address
  /** The only address that datagrams go to and are taken from. */
  readonly connect?: Address
  /** A socket for all of IPv6 takes IPv4 too unless this is said (portable engine; in the linux engine none does). */
  readonly ipv6Only?: boolean
  /** The socket is asked for large buffers. */
  readonly isBusy: boolean
  /** A socket that is open and bound already, given for good (linux engine alone). */
  readonly fd?: number
}

export interface SocketHandlers {
  /** A datagram; the bytes are the callee's to overwrite, until it returns. */
  readonly onDatagram: (buffer: Uint8Array, offset: number, length: number, from: Address) => void
  /** The socket is open, bound to `address`. Not called after `onFailed`. */
  readonly onOpen?: (address: Address) => void
  /** The socket could not be opened; `code` is the system's. */
  readonly onFailed?: (code: string) => void
  /** A datagram could not be sent, or the far end's host says that nobody listens there. It may be forged. */
  readonly onError?: () => void
}

export interface DatagramSocket {
  /** Sends without waiting. `to` is for sockets that are not connected. The bytes are read before the event ends. */
  send(buffer: Uint8Array, offset: number, length: number, to?: Address): void
  /** Whether datagrams that are longer than a link of the way are lost there; `false` at first, and always where it is absent. */
  keepWhole?(isWhole: boolean): void
  close(): void
}

/** Whether a code of the system says that the process, or the machine, has all the files that it may. */
export function isOutOfDescriptors(code: string | undefined): boolean {
  return code === 'EMFILE' || code === 'ENFILE'
}

export interface Datagrams {
  open(plan: SocketPlan, handlers: SocketHandlers): DatagramSocket
}
