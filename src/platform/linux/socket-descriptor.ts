// The descriptor of a socket of Node's, which does not tell it: it is in the state that the module keeps behind a symbol.

import type { Socket } from 'node:dgram'

interface State {
  readonly handle?: { readonly fd?: number }
}

/** -1 where it is not to be found. */
export function descriptorOf(socket: Socket): number {
  const symbol = Object.getOwnPropertySymbols(socket).find(({ description }) => description === 'state symbol')
  const state = symbol && (socket as unknown as Readonly<Record<symbol, State>>)[symbol]
  return state?.handle?.fd ?? -1
}
