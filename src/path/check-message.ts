// Connectivity checks as STUN messages (RFC 8445 §7.1, §7.3): what a request says, and the three answers to it.

import { copyBytes } from '#bytes/copy.ts'
import type { Address } from '#wire/address.ts'
import {
  type DecodedStun,
  readU32Value,
  STUN_ATTRIBUTE,
  STUN_METHOD,
  type StunAttribute,
  type StunMessage,
  stunAttribute,
  u32Value,
} from '#wire/stun.ts'
import { errorValue, unknownAttributesValue, xorAddressValue } from '#wire/stun-value.ts'

export const ROLE_CONFLICT = 487
const UNKNOWN_ATTRIBUTE = 420
const MAX_UNKNOWN = 8

export interface CheckFields {
  /** `theirs:ours`. */
  readonly username: string
  /** What our address would have if the peer learned it from this check. */
  readonly priority: number
  readonly isControlling: boolean
  /** 8 bytes. */
  readonly tieBreaker: Uint8Array
  /** The pair is nominated, the larger number counts; `undefined` when it is not. */
  readonly nomination: number | undefined
}

/** A binding request that checks a pair. */
export function checkRequest(transaction: Uint8Array, fields: CheckFields): StunMessage {
  const attributes: StunAttribute[] = [
    { type: STUN_ATTRIBUTE.username, value: Buffer.from(fields.username) },
    { type: STUN_ATTRIBUTE.priority, value: u32Value(fields.priority) },
    { type: roleAttribute(fields.isControlling), value: fields.tieBreaker },
  ]
  if (fields.nomination !== undefined) {
    attributes.push({ type: STUN_ATTRIBUTE.useCandidate, value: new Uint8Array(0) })
    attributes.push({ type: STUN_ATTRIBUTE.nomination, value: u32Value(fields.nomination) })
  }
  return { class: 'request', method: STUN_METHOD.binding, transaction, attributes }
}

/** What the peer's check says; `nomination` is 0 where it nominates nothing, 1 where it gives no number. */
export function readCheck(message: DecodedStun): { readonly priority: number; readonly nomination: number } {
  const priority = readU32Value(stunAttribute(message, STUN_ATTRIBUTE.priority)) ?? 0
  const isNominated = stunAttribute(message, STUN_ATTRIBUTE.useCandidate) !== undefined
  const number = readU32Value(stunAttribute(message, STUN_ATTRIBUTE.nomination)) ?? 1
  return { priority, nomination: isNominated ? Math.max(1, number) : 0 }
}

/** The tie-breaker of a peer that claims the role that is ours. */
export function conflictingTieBreaker(message: DecodedStun, isControlling: boolean): Uint8Array | undefined {
  return stunAttribute(message, roleAttribute(isControlling))
}

/** The answer that tells the peer where its check came from. */
export function checkAnswer(request: DecodedStun, from: Address): StunMessage {
  const transaction = copyBytes(request.transaction)
  const attributes = [{ type: STUN_ATTRIBUTE.xorMappedAddress, value: xorAddressValue(from, transaction) }]
  return { class: 'success', method: STUN_METHOD.binding, transaction, attributes }
}

/** The peer has the role that we have, and has to change. */
export function roleConflict(request: DecodedStun): StunMessage {
  return refusal(request, ROLE_CONFLICT, [])
}

/** The request has attributes that must be understood and are not. */
export function unknownAttributes(request: DecodedStun, types: readonly number[]): StunMessage {
  const value = unknownAttributesValue(types.slice(0, MAX_UNKNOWN))
  return refusal(request, UNKNOWN_ATTRIBUTE, [{ type: STUN_ATTRIBUTE.unknownAttributes, value }])
}

function refusal(request: DecodedStun, code: number, more: readonly StunAttribute[]): StunMessage {
  const attributes = [{ type: STUN_ATTRIBUTE.errorCode, value: errorValue(code, '') }, ...more]
  return { class: 'error', method: STUN_METHOD.binding, transaction: copyBytes(request.transaction), attributes }
}

function roleAttribute(isControlling: boolean): number {
  return isControlling ? STUN_ATTRIBUTE.iceControlling : STUN_ATTRIBUTE.iceControlled
}
