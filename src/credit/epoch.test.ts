import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { generateIdentity } from '#crypto/signature.ts'
import { openSqlite } from '#issuer/sqlite.ts'
import { makeAccount, TEST_START_MS as NOW, startTestIssuer, withdrawTokens } from '#lab/credits/test-issuer.ts'
import { decodeToken } from '#wire/token.ts'
import { doubtEntries, epochOf, proveEntry, readEpochStatement, stateEpoch } from './epoch.ts'
import { merkleProof, merkleRoot, verifyMerkleProof } from './merkle.ts'

const sha256 = (...parts: Uint8Array[]) => createHash('sha256').update(Buffer.concat(parts)).digest()

test('the root is that of RFC 6962, computed by its own recursive definition', () => {
  const twin = (entries: Uint8Array[]): Uint8Array => {
    if (entries.length === 0) return sha256()
    if (entries.length === 1) return sha256(Uint8Array.of(0), entries[0] as Uint8Array)
    let k = 1
    while (k * 2 < entries.length) k *= 2
    return sha256(Uint8Array.of(1), twin(entries.slice(0, k)), twin(entries.slice(k)))
  }
  for (let n = 0; n < 40; n++) {
    const entries = Array.from({ length: n }, (_, i) => Uint8Array.of(i, n))
    assert.deepEqual(Buffer.from(merkleRoot(entries)), twin(entries))
  }
})

test('a proof holds for its entry at its place, and for nothing else', () => {
  for (let n = 1; n < 20; n++) {
    const entries = Array.from({ length: n }, (_, i) => Uint8Array.of(i))
    const root = merkleRoot(entries)
    for (const [index, entry] of entries.entries()) {
      const proof = merkleProof(entries, index)
      assert.equal(verifyMerkleProof(root, n, index, entry, proof), true)
      for (let other = -1; other <= n; other++)
        if (other !== index) assert.equal(verifyMerkleProof(root, n, other, entry, proof), false)
      assert.equal(verifyMerkleProof(root, n, index, Uint8Array.of(99), proof), false)
      assert.equal(verifyMerkleProof(root, n, index, entry, [...proof, root]), false)
      if (proof.length > 0) assert.equal(verifyMerkleProof(root, n, index, entry, proof.slice(1)), false)
    }
  }
})

test('a relay states an epoch, and every entry that is asked for is a token at its place', async t => {
  const sql = openSqlite(':memory:')
  const net = await startTestIssuer({ sql })
  t.after(() => net.close())
  const account = await makeAccount(net.issuer, sql, 9)
  const tokens = (await withdrawTokens(net.issuer, account, 9, NOW)).map(bytes => decodeToken(bytes) ?? assert.fail())
  const { keys } = await net.issuer.keys.directory(NOW)
  const relay = generateIdentity()
  const bytes = stateEpoch(net.issuer.id, epochOf(NOW), tokens, relay)
  const statement = readEpochStatement(bytes) ?? assert.fail()
  assert.equal(statement.total, 9)
  const all = tokens.map((_, index) => proveEntry(tokens, index))
  assert.equal(doubtEntries(statement, all, keys), undefined)

  for (const length of [0, 76, bytes.length - 1]) assert.equal(readEpochStatement(bytes.subarray(0, length)), undefined)
  assert.equal(readEpochStatement(Buffer.concat([bytes, Uint8Array.of(0)])), undefined)
  for (let at = 0; at < bytes.length; at += 401)
    assert.equal(readEpochStatement(Uint8Array.from(bytes).with(at, (bytes[at] ?? 0) ^ 1)), undefined)

  const [first = assert.fail(), second = assert.fail()] = all
  assert.equal(doubtEntries(statement, [{ ...first, index: 1 }], keys), 'notIncluded')
  const twice = [tokens[0] ?? assert.fail(), ...tokens]
  const inflated = readEpochStatement(stateEpoch(net.issuer.id, 1, twice, relay)) ?? assert.fail()
  assert.equal(
    doubtEntries(
      inflated,
      twice.map((_, i) => proveEntry(twice, i)),
      keys,
    ),
    'outOfOrder',
  )
  const made = { ...(tokens[0] ?? assert.fail()), authenticator: new Uint8Array(256) }
  const forged = readEpochStatement(stateEpoch(net.issuer.id, 1, [made], relay)) ?? assert.fail()
  assert.equal(doubtEntries(forged, [proveEntry([made], 0)], keys), 'forged')
  assert.equal(doubtEntries({ ...statement, issuerId: '00' }, [second], keys), 'otherIssuer')
})
