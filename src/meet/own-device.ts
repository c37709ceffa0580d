// This device's own keys. Its id stays; its keys come in generations, of which the current and the one before are kept, so that
// a device that slept through a change still reaches us.

import { createHash } from 'node:crypto'
import { type MlKemKeyPair, mlKemFromSeed } from '#crypto/mlkem768.ts'
import type { Random } from '#crypto/random.ts'
import { type X25519KeyPair, x25519FromPrivate } from '#crypto/x25519.ts'
import { type XWingKeyPair, xwingFromSeed } from '#crypto/xwing.ts'
import type { DeviceCard } from '#wire/device-card.ts'

const SEED_BYTES = 32 + 32 + 32 + 64 + 32

/** One generation of keys, and the 192 bytes that it is made from. */
export interface DeviceKeys {
  readonly generation: number
  readonly seed: Uint8Array
  readonly sealing: XWingKeyPair
  readonly identity: X25519KeyPair
  readonly prekey: X25519KeyPair
  readonly kem: MlKemKeyPair
  readonly tunnel: X25519KeyPair
}

export interface OwnDevice {
  /** 32 hex digits. */
  readonly id: string
  readonly name: string
  /** The current generation first; at most two. */
  readonly keys: readonly [DeviceKeys, ...DeviceKeys[]]
}

/** A device with its first keys; its id is a hash of the identity key. */
export function newOwnDevice(name: string, random: Random): OwnDevice {
  const keys = deviceKeys(1, random(SEED_BYTES))
  const hash = createHash('sha256').update('hoplite device id v1').update(keys.identity.publicKey).digest('hex')
  return { id: hash.slice(0, 32), name, keys: [keys] }
}

/** The same device with new keys; those before the last are gone. */
export function rotateKeys(device: OwnDevice, random: Random): OwnDevice {
  const [current] = device.keys
  return { ...device, keys: [deviceKeys(current.generation + 1, random(SEED_BYTES)), current] }
}

/** The keys of a generation from its 192 secret bytes, of which it keeps a copy. */
export function deviceKeys(generation: number, secret: Uint8Array): DeviceKeys {
  if (secret.length !== SEED_BYTES) throw new RangeError('read device keys: a seed is 192 bytes')
  const seed = Uint8Array.from(secret)
  return {
    generation,
    seed,
    sealing: xwingFromSeed(seed.subarray(0, 32)),
    identity: x25519FromPrivate(seed.subarray(32, 64)),
    prekey: x25519FromPrivate(seed.subarray(64, 96)),
    kem: mlKemFromSeed(seed.subarray(96, 160)),
    tunnel: x25519FromPrivate(seed.subarray(160, 192)),
  }
}

/** What other devices get to know. */
export function cardOf({ id, name, keys: [current] }: OwnDevice): DeviceCard {
  return {
    id,
    name,
    generation: current.generation,
    sealingKey: current.sealing.publicKey,
    identityKey: current.identity.publicKey,
    prekey: current.prekey.publicKey,
    kemKey: current.kem.publicKey,
    tunnelKey: current.tunnel.publicKey,
  }
}
