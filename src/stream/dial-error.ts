// Why a target could not be reached, in the terms of a SOCKS5 reply.

import { REFUSAL, type Refusal } from '#wire/control.ts'

export class DialError extends Error {
  readonly reason: Refusal

  constructor(reason: Refusal) {
    super(`dial: ${DESCRIPTIONS[reason]}`)
    this.name = 'DialError'
    this.reason = reason
  }
}

export const DESCRIPTIONS: Record<Refusal, string> = {
  [REFUSAL.generalFailure]: 'no route could carry it',
  [REFUSAL.notAllowed]: 'the exit does not allow this address or port',
  [REFUSAL.networkUnreachable]: 'the network cannot be reached from the exit',
  [REFUSAL.hostUnreachable]: 'the host cannot be reached from the exit',
  [REFUSAL.connectionRefused]: 'the host refused the connection',
  [REFUSAL.timedOut]: 'the host did not answer in time',
  [REFUSAL.unknownRequest]: 'the exit does not know this request',
  [REFUSAL.nameNotFound]: 'the name does not exist',
  [REFUSAL.tooMany]: 'too many streams are open at the exit',
  [REFUSAL.paymentRefused]: 'the exit does not take the payment',
}

/** The reason that stands for an error of `net.connect` or a resolver. */
export function refusalOf(error: unknown): Refusal {
  switch ((error as NodeJS.ErrnoException).code) {
    case 'ECONNREFUSED':
      return REFUSAL.connectionRefused
    case 'ENETUNREACH':
      return REFUSAL.networkUnreachable
    case 'EHOSTUNREACH':
    case 'EADDRNOTAVAIL':
      return REFUSAL.hostUnreachable
    case 'ETIMEDOUT':
    case 'ETIMEOUT':
      return REFUSAL.timedOut
    case 'ENOTFOUND':
    case 'ENODATA':
      return REFUSAL.nameNotFound
    default:
      return REFUSAL.generalFailure
  }
}
