import { connect, type Socket } from 'node:net'
import { socksConnect } from '../../socks-client.ts'
import { ORIGIN_ADDRESS, ORIGIN_PORT, VERBS } from '../origin-address.ts'
import type { Access } from '../subject.ts'

/** A probe is a user of its own, where a proxy keeps users apart: what one has left in queues does not weigh on the next. */
const USER = `probe${process.pid}`

/** A TCP connection to the origin, which has been told what is wanted; rejects when there is none within `limitMs`. */
export async function connectOrigin(access: Access, verb: keyof typeof VERBS, limitMs = 10_000): Promise<Socket> {
  const socket = await within(open(access), limitMs)
  socket.setNoDelay(true)
  socket.write(VERBS[verb])
  return socket
}

/** The first of `waiting` and a failure after `limitMs`. */
export async function within<T>(waiting: Promise<T>, limitMs: number): Promise<T> {
  const { promise: late, reject } = Promise.withResolvers<never>()
  const timer = setTimeout(() => reject(new Error(`no answer within ${limitMs} ms`)), limitMs)
  try {
    return await Promise.race([waiting, late])
  } finally {
    clearTimeout(timer)
  }
}

async function open(access: Access): Promise<Socket> {
  if (access.kind === 'socks') {
    const { host, port, hasUsers } = access
    return socksConnect({ host, port }, ORIGIN_ADDRESS, ORIGIN_PORT, hasUsers ? USER : undefined)
  }
  const socket = connect({ host: ORIGIN_ADDRESS, port: ORIGIN_PORT, noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  return socket
}
