// ICE credentials (RFC 8445 §5.3): a name for checks to us, and the key that they are made with.

import { copyBytes } from '#bytes/copy.ts'
import type { Random } from '#crypto/random.ts'
import { type DecodedStun, STUN_ATTRIBUTE, stunAttribute } from '#wire/stun.ts'
import { iceKey, iceText, type StunKey } from './stun-auth.ts'

export interface Credentials {
  /** Grows with every restart. */
  readonly generation: number
  readonly ufragBytes: Uint8Array
  readonly passwordBytes: Uint8Array
  readonly ufrag: string
  readonly key: StunKey
}

export function newCredentials(random: Random, generation: number): Credentials {
  const ufragBytes = copyBytes(random(6))
  const passwordBytes = copyBytes(random(18))
  return { generation, ufragBytes, passwordBytes, ufrag: iceText(ufragBytes), key: iceKey(passwordBytes) }
}

/** Whom a check is for: what stands before the colon of its USERNAME (RFC 8445 §7.2.2). */
export function ufragOf(message: DecodedStun): string | undefined {
  const username = stunAttribute(message, STUN_ATTRIBUTE.username)
  return username && Buffer.from(username.subarray(0, 513)).toString('latin1').split(':')[0]
}
