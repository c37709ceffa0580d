// Exit codes, as docs/exit-codes.md lists them. Those above 63 are the customary ones of sysexits.h.

import type { ErrorCode } from '#api/errors.ts'

export const EXIT = {
  done: 0,
  failed: 1,
  usage: 64,
  unavailable: 69,
  internal: 70,
  system: 71,
  cannotCreate: 73,
  temporary: 75,
  notPermitted: 77,
  config: 78,
} as const

/** The exit code of an error. */
export function exitCodeOf(code: ErrorCode): number {
  switch (code) {
    case 'CONFIG_INVALID':
    case 'CONFIG_UNREADABLE':
    case 'NO_CARRIER':
    case 'ENTRY_FILE_INVALID':
      return EXIT.config
    case 'STATE_LOCKED':
    case 'NO_ROUTE':
    case 'PART_RUNNING':
    case 'PAIRING_BUSY':
    case 'PAIRING_FAILED':
    case 'DEVICE_UNREACHABLE':
    case 'CHANGES_PENDING':
    case 'LIMIT_REACHED':
      return EXIT.temporary
    case 'STATE_UNREADABLE':
    case 'KEY_EXISTS':
      return EXIT.cannotCreate
    case 'ADDRESS_IN_USE':
    case 'DAEMON_NOT_RUNNING':
    case 'DAEMON_FAILED':
    case 'PART_FAILED':
    case 'DATABASE_FAILED':
    case 'ISSUER_UNREACHABLE':
    case 'ISSUER_REFUSED':
    case 'WALLET_FAILED':
    case 'NAME_NOT_FOUND':
    case 'FFI_MISSING':
    case 'TUN_UNAVAILABLE':
    case 'PROGRAM_MISSING':
      return EXIT.unavailable
    case 'CODE_INVALID':
    case 'DEVICE_UNKNOWN':
    case 'DEVICE_NAME_INVALID':
    case 'REQUEST_INVALID':
    case 'ACTION_UNKNOWN':
    case 'NOT_SIGNED_IN':
    case 'NOT_ALLOWED':
      return EXIT.usage
    case 'NOT_PERMITTED':
      return EXIT.notPermitted
    case 'CHANGE_FAILED':
    case 'HELPER_LOST':
      return EXIT.system
    case 'DATA_PLANE_FAILED':
    case 'INTERNAL':
      return EXIT.internal
  }
}
