// Expected failures: a code, what happened, and what to do next. The codes stand in docs/errors.md.

export const ERROR_CODES = [
  'CONFIG_INVALID',
  'CONFIG_UNREADABLE',
  'STATE_LOCKED',
  'STATE_UNREADABLE',
  'KEY_EXISTS',
  'ADDRESS_IN_USE',
  'DAEMON_NOT_RUNNING',
  'DAEMON_FAILED',
  'PART_RUNNING',
  'PART_FAILED',
  'DATA_PLANE_FAILED',
  'NO_ROUTE',
  'DATABASE_FAILED',
  'ISSUER_UNREACHABLE',
  'ISSUER_REFUSED',
  'WALLET_FAILED',
  'NO_CARRIER',
  'CODE_INVALID',
  'PAIRING_BUSY',
  'PAIRING_FAILED',
  'DEVICE_UNKNOWN',
  'DEVICE_UNREACHABLE',
  'DEVICE_NAME_INVALID',
  'ENTRY_FILE_INVALID',
  'NAME_NOT_FOUND',
  'FFI_MISSING',
  'NOT_PERMITTED',
  'TUN_UNAVAILABLE',
  'PROGRAM_MISSING',
  'CHANGE_FAILED',
  'CHANGES_PENDING',
  'HELPER_LOST',
  'REQUEST_INVALID',
  'ACTION_UNKNOWN',
  'NOT_SIGNED_IN',
  'NOT_ALLOWED',
  'LIMIT_REACHED',
  'INTERNAL',
] as const
export type ErrorCode = (typeof ERROR_CODES)[number]

export class HopliteError extends Error {
  readonly code: ErrorCode
  /** What the reader can do; a sentence without a full stop. */
  readonly advice: string

  constructor(code: ErrorCode, message: string, advice: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'HopliteError'
    this.code = code
    this.advice = advice
  }
}
