import assert from 'node:assert/strict'
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { inspect } from 'node:util'
import { HopliteError } from '#api/errors.ts'
import { makeKeys, readKeys } from './keys.ts'

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-keys-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

const hasCode = (code: string) => (error: unknown) => error instanceof HopliteError && error.code === code

test('keys that were made are those that are read', t => {
  const directory = temporary(t)
  assert.equal(readKeys(directory), undefined)
  const made = makeKeys(directory)
  const read = readKeys(directory)
  assert.deepEqual(read?.identity.publicKey, made.identity.publicKey)
  assert.deepEqual(read?.hop.publicKey, made.hop.publicKey)
  assert.deepEqual(Buffer.from(read?.peerSeed ?? []), made.peerSeed)
})

test('keys are never overwritten: without force refused, with force set aside', t => {
  const directory = temporary(t)
  const first = makeKeys(directory)
  const before = readFileSync(path.join(directory, 'node.key'))
  assert.throws(() => makeKeys(directory), hasCode('KEY_EXISTS'))
  const second = makeKeys(directory, true)
  assert.notDeepEqual(second.identity.publicKey, first.identity.publicKey)
  assert.deepEqual(readdirSync(directory).toSorted(), ['node.key', 'node.key.old-1'])
  assert.deepEqual(readFileSync(path.join(directory, 'node.key.old-1')), before)
})

test('a key file that is cut, longer, or has a flipped bit anywhere is refused and stays as it is', t => {
  const directory = temporary(t)
  makeKeys(directory)
  const file = path.join(directory, 'node.key')
  const good = readFileSync(file)
  const bad = [
    ...Array.from({ length: good.length }, (_, length) => good.subarray(0, length)),
    Buffer.concat([good, Buffer.of(0)]),
    ...Array.from({ length: good.length }, (_, i) => good.map((byte, at) => (at === i ? byte ^ (1 << (i % 8)) : byte))),
    Buffer.alloc(1_000_000),
  ]
  for (const bytes of bad) {
    writeFileSync(file, bytes)
    assert.throws(() => readKeys(directory), hasCode('STATE_UNREADABLE'))
    assert.ok(readFileSync(file).equals(bytes))
  }
})

test('keys that others may read are refused', { skip: process.platform === 'win32' }, t => {
  const directory = temporary(t)
  makeKeys(directory)
  chmodSync(path.join(directory, 'node.key'), 0o644)
  assert.throws(() => readKeys(directory), /others may read it \(mode 644\)/)
})

test('no secret stands in an error about damaged keys', t => {
  const directory = temporary(t)
  const { peerSeed } = makeKeys(directory)
  const file = path.join(directory, 'node.key')
  writeFileSync(file, readFileSync(file).subarray(1), { mode: 0o600 })
  try {
    readKeys(directory)
    assert.fail('accepted')
  } catch (error) {
    assert.ok(!inspect(error, { depth: 9 }).includes(Buffer.from(peerSeed).toString('hex')))
  }
})
