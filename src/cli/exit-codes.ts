// Exit codes, as docs/exit-codes.md lists them. Those above 63 are the customary ones of sysexits.h.

import type { ErrorCode } from '#api/errors.ts'

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 64,
  unavailable: 69,
  internal: 70,
  cannotCreate: 73,
  temporary: 75,
  config: 78,
} as const

/** The exit code of an error. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'CONFIG_INVALID':
    case 'CONFIG_UNREADABLE':
      return EXIT.config
    case 'STATE_LOCKED':
    case 'NO_ROUTE':
      return EXIT.temporary
    case 'STATE_UNREADABLE':
    case 'KEY_EXISTS':
      return EXIT.cannotCreate
    case 'ADDRESS_IN_USE':
    case 'DAEMON_NOT_RUNNING':
    case 'DAEMON_FAILED':
    case 'DATABASE_FAILED':
    case 'ISSUER_UNREACHABLE':
    case 'ISSUER_REFUSED':
    case 'WALLET_FAILED':
      return EXIT.unavailable
    case 'REQUEST_INVALID':
    case 'ACTION_UNKNOWN':
      return EXIT.usage
    case 'INTERNAL':
      return EXIT.internal
  }
}
