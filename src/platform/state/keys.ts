// A node's secret keys, in one file of the state directory:
//
//   offset size  field
//   0      16    "hoplite keys 01\n"
//   16     64    identity seed (signature.ts)
//   80     32    hop key, X25519
//   112    32    seed of the libp2p peer id
//   144    16    SHA-256 of all that is before, its first 16 bytes: a damaged key is another node
//
// Length policy: exact, 160 bytes.

import { createHash, randomBytes } from 'node:crypto'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { copyBytes } from '#bytes/copy.ts'
import { generateIdentity, type Identity, identityFromSeed } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { type HopKeys, hopKeys } from '#session/hop-handshake.ts'
import { assertPrivate, readStateFile, setAside, writeStateFile } from './state-file.ts'

const MAGIC = Buffer.from('hoplite keys 01\n')
const CHECKED_BYTES = 144
const FILE_BYTES = 160

export interface NodeKeys {
  readonly identity: Identity
  readonly hop: HopKeys
  readonly peerSeed: Uint8Array
}

/** Reads the keys of a state directory; `undefined` when there are none. Throws when the file is damaged or readable by others. */
export function readKeys(stateDir: string): NodeKeys | undefined {
  const file = keyFile(stateDir)
  const bytes = readStateFile(file, 4096)
  if (bytes === undefined) return undefined
  assertPrivate(file)
  if (!isWhole(Buffer.from(bytes))) {
    throw new HopliteError(
      'STATE_UNREADABLE',
      `read ${file}: it is not a key file, or is damaged`,
      'restore it from a backup, or make new keys with: hoplite keygen --force',
    )
  }
  return {
    identity: identityFromSeed(bytes.subarray(16, 80)),
    hop: hopKeys(bytes.subarray(80, 112)),
    peerSeed: copyBytes(bytes, 112, 144),
  }
}

/** Makes keys; throws KEY_EXISTS when there are some, unless `force`, which sets those aside. */
export function makeKeys(stateDir: string, force = false): NodeKeys {
  const file = keyFile(stateDir)
  if (readStateFile(file, 1_000_000) !== undefined) {
    if (!force)
      throw new HopliteError('KEY_EXISTS', `make keys: ${file} exists`, 'keep it, or set it aside with --force')
    setAside(file, 'old')
  }
  const identity = generateIdentity()
  const hop = generateX25519().privateKey
  const peerSeed = randomBytes(32)
  const checked = Buffer.concat([MAGIC, identity.seed.bytes, hop, peerSeed])
  writeStateFile(file, Buffer.concat([checked, checksum(checked)]))
  return { identity, hop: hopKeys(hop), peerSeed }
}

function isWhole(bytes: Buffer): boolean {
  if (bytes.length !== FILE_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC)) return false
  return checksum(bytes.subarray(0, CHECKED_BYTES)).equals(bytes.subarray(CHECKED_BYTES))
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash('sha256')
    .update(bytes)
    .digest()
    .subarray(0, FILE_BYTES - CHECKED_BYTES)
}

function keyFile(stateDir: string): string {
  return path.join(stateDir, 'node.key')
}
