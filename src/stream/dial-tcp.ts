// Dials the first address that answers: the next one is tried when an attempt fails, or after a moment beside it
// (RFC 8305 §5). Only the addresses given are dialled; nothing is resolved here.

import { connect, isIPv6, type Socket } from 'node:net'
import { REFUSAL, type Refusal } from '#wire/control.ts'
import { refusalOf } from './dial-error.ts'

const ATTEMPT_DELAY_MS = 250

export interface DialTcpOptions {
  readonly timeoutMs: number
  /** The address to dial from; the system's choice when absent. */
  readonly from?: string | undefined
  readonly signal: AbortSignal
}

/** A connection that has no listeners yet, or why there is none. `hosts` are IP addresses. */
export function dialTcp(hosts: readonly string[], port: number, options: DialTcpOptions): Promise<Socket | Refusal> {
  const { timeoutMs, from, signal } = options
  return new Promise(resolve => {
    const attempts = new Set<Socket>()
    let next = 0
    let reason: Refusal = REFUSAL.hostUnreachable
    let stagger: NodeJS.Timeout | undefined

    const settle = (result: Socket | Refusal) => {
      clearTimeout(deadline)
      clearTimeout(stagger)
      signal.removeEventListener('abort', abort)
      for (const socket of attempts) if (socket !== result) socket.destroy()
      attempts.clear()
      next = hosts.length
      resolve(result)
    }
    const abort = () => settle(REFUSAL.generalFailure)
    const attempt = () => {
      clearTimeout(stagger)
      const host = hosts[next++]
      if (host === undefined) {
        if (attempts.size === 0) settle(reason)
        return
      }
      const localAddress = from !== undefined && isIPv6(from) === isIPv6(host) ? from : undefined
      const socket = connect({ host, port, allowHalfOpen: true, noDelay: true, ...(localAddress && { localAddress }) })
      attempts.add(socket)
      socket.once('connect', () => attempts.has(socket) && settle(socket))
      // Stays: an error between here and the splice is known by the socket being destroyed.
      socket.on('error', error => {
        if (!attempts.delete(socket)) return
        reason = refusalOf(error)
        attempt()
      })
      if (next < hosts.length) stagger = setTimeout(attempt, ATTEMPT_DELAY_MS)
    }
    const deadline = setTimeout(() => settle(REFUSAL.timedOut), timeoutMs)
    if (signal.aborted) return abort()
    signal.addEventListener('abort', abort, { once: true })
    attempt()
  })
}
