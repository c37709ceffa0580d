// How two paired devices begin a session: X3DH with a KEM beside it (docs/spec/ratchet.md). One message; whoever knows the
// other's card can send it at once, whether the other is there or not.
//
//   secrets   DH(identity A, prekey B), DH(ephemeral A, identity B), DH(ephemeral A, prekey B), KEM for B
//   root      HKDF-SHA256 over 32 bytes of 0xff and the secrets; its label carries a hash of everything that was said
//
// No signature anywhere: B could have made up every message of A, so nobody can prove to a third what A said. It stays secret
// while X25519 or ML-KEM-768 holds; who A is rests on X25519.

import { createHash } from 'node:crypto'
import { hkdfExpand, hkdfExtract } from '#crypto/hkdf.ts'
import { decapsulateMlKem, encapsulateMlKem } from '#crypto/mlkem768.ts'
import type { Random } from '#crypto/random.ts'
import { type X25519KeyPair, x25519, x25519FromPrivate } from '#crypto/x25519.ts'
import type { DeviceCard } from '#wire/device-card.ts'
import { type BeginHandshake, SESSION_ID_BYTES } from '#wire/device-message.ts'
import type { DeviceKeys } from './own-device.ts'

const LABEL = Buffer.from('hoplite device session v1')
const NO_SALT = new Uint8Array(32)
/** X3DH §2.2: no X25519 public key has these bytes, so the input is never mistaken for another protocol's. */
const SEPARATOR = new Uint8Array(32).fill(0xff)

/** What both ends have after a handshake. */
export interface SessionSecrets {
  readonly session: Uint8Array
  /** The first root key of the ratchet, 32 bytes. */
  readonly root: Uint8Array
  /** For the pre-shared key slot of the tunnel between the two, 32 bytes. */
  readonly tunnelSecret: Uint8Array
  /** What every message of the session is bound to, 32 bytes. */
  readonly binding: Uint8Array
}

/** Begins a session with the holder of `peer`; `undefined` when the card's keys are unusable. */
export function beginSession(
  own: { readonly id: string; readonly keys: DeviceKeys },
  peer: DeviceCard,
  begunMs: number,
  random: Random,
): { readonly begin: BeginHandshake; readonly secrets: SessionSecrets } | undefined {
  const ephemeral = x25519FromPrivate(random(32))
  const kem = encapsulateMlKem(peer.kemKey)
  const shared = [
    x25519(own.keys.identity.privateKey, peer.prekey),
    x25519(ephemeral.privateKey, peer.identityKey),
    x25519(ephemeral.privateKey, peer.prekey),
    kem?.secret,
  ]
  ephemeral.privateKey.fill(0)
  if (kem === undefined) return undefined
  const begin = {
    generation: peer.generation,
    begunMs,
    ephemeralKey: ephemeral.publicKey,
    kemCiphertext: kem.ciphertext,
  }
  const parties = { from: own.id, fromKey: own.keys.identity.publicKey, to: peer.id, toKeys: peer }
  const secrets = deriveSecrets(shared, bindingOf(parties, begin))
  return secrets && { begin, secrets }
}

/** The responder's side, with the generation of keys that `begin` names; `undefined` when there is nothing to derive. */
export function acceptSession(
  own: { readonly id: string; readonly keys: DeviceKeys },
  peer: DeviceCard,
  begin: BeginHandshake,
): SessionSecrets | undefined {
  const { identity, prekey, kem } = own.keys
  const shared = [
    x25519(prekey.privateKey, peer.identityKey),
    x25519(identity.privateKey, begin.ephemeralKey),
    x25519(prekey.privateKey, begin.ephemeralKey),
    decapsulateMlKem(kem.privateKey, begin.kemCiphertext),
  ]
  const toKeys = { identityKey: identity.publicKey, prekey: prekey.publicKey, kemKey: kem.publicKey }
  const parties = { from: peer.id, fromKey: peer.identityKey, to: own.id, toKeys }
  return deriveSecrets(shared, bindingOf(parties, begin))
}

/** The responder's first ratchet key is its prekey: the initiator knows it. */
export function firstRatchetKey(keys: DeviceKeys): X25519KeyPair {
  return keys.prekey
}

interface Parties {
  readonly from: string
  readonly fromKey: Uint8Array
  readonly to: string
  readonly toKeys: Pick<DeviceCard, 'identityKey' | 'prekey' | 'kemKey'>
}

/** A hash of who speaks to whom, under which keys, and the handshake itself. Every part has a fixed length. */
function bindingOf({ from, fromKey, to, toKeys }: Parties, begin: BeginHandshake): Uint8Array {
  const begun = Buffer.alloc(8)
  begun.writeBigUInt64LE(BigInt(begin.begunMs))
  return createHash('sha256')
    .update(Buffer.concat([LABEL, Buffer.from(from + to, 'hex'), fromKey]))
    .update(Buffer.concat([toKeys.identityKey, toKeys.prekey, toKeys.kemKey]))
    .update(Buffer.concat([begun, begin.ephemeralKey, begin.kemCiphertext]))
    .digest()
}

function deriveSecrets(shared: readonly (Uint8Array | undefined)[], binding: Uint8Array): SessionSecrets | undefined {
  const known = shared.filter(secret => secret !== undefined)
  if (known.length < shared.length) return undefined
  const key = hkdfExtract(NO_SALT, SEPARATOR, ...known)
  for (const secret of known) secret.fill(0)
  const output = hkdfExpand(key, Buffer.concat([LABEL, binding]), 64 + SESSION_ID_BYTES)
  key.fill(0)
  const secrets = {
    root: output.slice(0, 32),
    tunnelSecret: output.slice(32, 64),
    session: output.slice(64),
    binding: Uint8Array.from(binding),
  }
  output.fill(0)
  return secrets
}
