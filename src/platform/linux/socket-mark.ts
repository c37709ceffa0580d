// Marks a socket of Node's, which has no option for that: its descriptor is in the state that the module keeps behind a symbol.

import type { Socket } from 'node:dgram'
import { SO_MARK, SOL_SOCKET, setOption } from './socket-calls.ts'

interface State {
  readonly handle?: { readonly fd?: number }
}

/** Sets SO_MARK of a bound socket; false where that is not permitted. */
export function markSocket(socket: Socket, mark: number): boolean {
  const fd = descriptorOf(socket)
  return fd >= 0 && setOption(fd, SOL_SOCKET, SO_MARK, mark)
}

/** -1 where it is not to be found. */
export function descriptorOf(socket: Socket): number {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol')
  const state = symbol && (socket as unknown as Readonly<Record<symbol, State>>)[symbol]
  return state?.handle?.fd ?? -1
}
