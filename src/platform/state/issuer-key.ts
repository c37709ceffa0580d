// An issuer's secret, in one file of its state directory; every process of an issuer has a copy.
//
//   offset size  field
//   0      16    "hoplite issuer 1"
//   16     64    identity seed (signature.ts): signs the key directory
//   80     32    master secret: seals what the database keeps
//   112    16    SHA-256 of all that is before, its first 16 bytes
//
// Length policy: exact, 128 bytes.

import { createHash, randomBytes } from 'node:crypto'
import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import { copyBytes } from '#bytes/copy.ts'
import { generateIdentity, type Identity, identityFromSeed } from '#crypto/signature.ts'
import { assertPrivate, readStateFile, writeStateFile } from './state-file.ts'

const MAGIC = Buffer.from('hoplite issuer 1')
const CHECKED_BYTES = 112
const FILE_BYTES = 128

export interface IssuerSecret {
  readonly identity: Identity
  /** 32 bytes. */
  readonly master: Uint8Array
}

/** Reads the secret of a state directory, and makes one when there is none. Throws STATE_UNREADABLE when it is damaged. */
export function loadIssuerSecret(stateDir: string): IssuerSecret {
  const file = path.join(stateDir, 'issuer.key')
  const bytes = readStateFile(file, 4096)
  if (bytes === undefined) return makeIssuerSecret(file)
  assertPrivate(file)
  const checked = bytes.subarray(0, CHECKED_BYTES)
  if (
    bytes.length !== FILE_BYTES ||
    !MAGIC.equals(bytes.subarray(0, 16)) ||
    !checksum(checked).equals(bytes.subarray(CHECKED_BYTES))
  )
    throw new HopliteError(
      'STATE_UNREADABLE',
      `read ${file}: it is not an issuer's key, or is damaged`,
      'restore it from a backup; without it the database cannot be used',
    )
  return { identity: identityFromSeed(bytes.subarray(16, 80)), master: copyBytes(bytes, 80, CHECKED_BYTES) }
}

function makeIssuerSecret(file: string): IssuerSecret {
  const identity = generateIdentity()
  const master = new Uint8Array(randomBytes(32))
  const checked = Buffer.concat([MAGIC, identity.seed.bytes, master])
  writeStateFile(file, Buffer.concat([checked, checksum(checked)]))
  return { identity, master }
}

function checksum(bytes: Uint8Array): Buffer {
  return createHash('sha256')
    .update(bytes)
    .digest()
    .subarray(0, FILE_BYTES - CHECKED_BYTES)
}
