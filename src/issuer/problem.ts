// What the issuer says when it does not do what it was asked: an HTTP status, a code for programs, a text for people.

const STATUS = {
  badRequest: 400,
  signedOut: 401,
  balanceTooLow: 402,
  notAllowed: 403,
  notFound: 404,
  voucherUnknown: 404,
  offerUnknown: 404,
  nameTaken: 409,
  keyNotSigning: 409,
  voucherUsed: 409,
  voucherExpired: 410,
  tooLarge: 413,
  wrongType: 415,
  tooMany: 429,
  internal: 500,
  unavailable: 503,
} as const
export type ProblemCode = keyof typeof STATUS

export const PROBLEM_CODES = Object.keys(STATUS) as [ProblemCode, ...ProblemCode[]]

export class Problem extends Error {
  readonly code: ProblemCode
  readonly status: number

  /** `message` says what was attempted and what was found, and holds nothing secret. */
  constructor(code: ProblemCode, message: string, cause?: unknown) {
    super(message, cause === undefined ? undefined : { cause })
    this.name = 'Problem'
    this.code = code
    this.status = STATUS[code]
  }
}
