import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { WIREGUARD_HANDSHAKE } from '#wire/wireguard.ts'
import { FlowProof } from './flow-proof.ts'

const AROUND = 5

/** A message of `type` with `length` bytes and little-endian numbers at 4 and 8, somewhere inside a buffer. */
function message(type: number, length: number, at4 = 0, at8 = 0) {
  const buffer = Buffer.alloc(length + 2 * AROUND + 16, 0xee)
  buffer.fill(0, AROUND, AROUND + 4)
  buffer[AROUND] = type
  if (length >= 8) buffer.writeUInt32LE(at4, AROUND + 4)
  if (length >= 12) buffer.writeUInt32LE(at8, AROUND + 8)
  return [buffer, AROUND, length] as const
}

const initiation = (index: number, length = 148) => message(1, length, index)
const response = (index: number, length = 92) => message(2, length, 0xdead_beef, index)
const cookie = (index: number, length = 64) => message(3, length, index)
const transport = (length: number) => message(4, length, 7)

function proving(...indices: number[]): FlowProof {
  const proof = new FlowProof('wireguard')
  for (const index of indices) assert.ok(proof.admitsOutward(...initiation(index)))
  return proof
}

test('before proof three initiations go out and nothing else does', () => {
  const proof = new FlowProof('wireguard')
  for (const other of [
    initiation(1, 147),
    initiation(1, 149),
    response(1),
    cookie(1),
    transport(32),
    transport(148),
    message(0, 148),
    message(5, HOP_HANDSHAKE.initiationBytes),
    message(4, 0),
  ])
    assert.equal(proof.admitsOutward(...other), false)
  for (const index of [1, 2, 3]) assert.ok(proof.admitsOutward(...initiation(index)))
  for (let i = 0; i < 10; i++) assert.equal(proof.admitsOutward(...initiation(4)), false)
  assert.equal(proof.isOpen, false)
})

test('the three bytes after the type are zero, in every message', () => {
  for (const position of [1, 2, 3]) {
    const proof = new FlowProof('wireguard')
    const begin = initiation(1)
    begin[0][AROUND + position] = 1
    assert.equal(proof.admitsOutward(...begin), false)
    const asked = proving(1)
    const answer = response(1)
    answer[0][AROUND + position] = 1
    assert.equal(asked.admitsInward(...answer), false)
    assert.equal(asked.isOpen, false)
  }
})

test('a response or a cookie reply of the right size with the index of an initiation opens the flow, and nothing else does', () => {
  for (const answer of [response, cookie]) {
    const proof = proving(7, 0xffff_fffe)
    const length = answer === response ? 92 : 64
    for (const wrong of [
      answer(8),
      answer(0),
      answer(7, length - 1),
      answer(7, length + 1),
      initiation(7),
      transport(92),
      transport(1_400),
      message(2, 64, 7, 7),
      message(3, 92, 7, 7),
      message(6, HOP_HANDSHAKE.responseBytes, 7, 7),
    ]) {
      assert.equal(proof.admitsInward(...wrong), false)
      assert.equal(proof.isOpen, false)
    }
    assert.ok(proof.admitsInward(...answer(0xffff_fffe)))
    assert.ok(proof.isOpen)
  }
})

test('an answer to nothing opens nothing', () => {
  const proof = new FlowProof('wireguard')
  assert.equal(proof.admitsInward(...response(0)), false)
  assert.equal(proof.admitsInward(...cookie(0)), false)
  assert.equal(proof.isOpen, false)
})

test('an initiation that was not let out is not one that can be answered', () => {
  const proof = proving(1, 2, 3)
  assert.equal(proof.admitsOutward(...initiation(4)), false)
  assert.equal(proof.admitsInward(...response(4)), false)
  assert.ok(proof.admitsInward(...response(3)))
})

test('after proof the four messages of WireGuard pass in their sizes, both ways, and nothing else', () => {
  const proof = proving(1)
  assert.ok(proof.admitsInward(...response(1)))
  const passes = [initiation(9), response(9), cookie(9), transport(32), transport(33), transport(1_452)]
  const stays = [
    initiation(9, 147),
    initiation(9, 149),
    response(9, 91),
    cookie(9, 65),
    transport(31),
    transport(4),
    transport(0),
    message(0, 64),
    message(5, 1_352),
    message(6, 1_228),
    message(7, 64),
    message(255, 64),
  ]
  for (const one of passes) assert.deepEqual([proof.admitsOutward(...one), proof.admitsInward(...one)], [true, true])
  for (const one of stays) assert.deepEqual([proof.admitsOutward(...one), proof.admitsInward(...one)], [false, false])
})

test('what comes in before proof is never more than what went out', () => {
  const sizes = fc.constantFrom(0, 4, 31, 32, 64, 92, 147, 148, 149, 1_228, 1_352, 1_500)
  const datagram = fc.tuple(fc.boolean(), fc.integer({ min: 0, max: 8 }), sizes, fc.nat(4), fc.nat(4))
  fc.assert(
    fc.property(fc.constantFrom('hop' as const, 'wireguard' as const), fc.array(datagram), (kind, datagrams) => {
      const proof = new FlowProof(kind)
      let [out, outBytes, inBytes] = [0, 0, 0]
      for (const [isOutward, type, length, at4, at8] of datagrams) {
        if (proof.isOpen) return
        const one = message(type, length, at4, at8)
        if (isOutward && proof.admitsOutward(...one)) {
          out++
          outBytes += length
        } else if (!isOutward && proof.admitsInward(...one) && proof.isOpen) inBytes += length
        assert.ok(out <= 3)
        assert.ok(inBytes <= outBytes, 'the answer that opens it is shorter than what it answers')
      }
    }),
    { numRuns: 2_000, seed: 1 },
  )
})

test('answers are shorter than what they answer', () => {
  for (const shape of [HOP_HANDSHAKE, WIREGUARD_HANDSHAKE]) {
    assert.ok(shape.responseBytes < shape.initiationBytes)
    assert.ok(shape.cookieReplyBytes < shape.initiationBytes)
  }
})

test('a hop’s flow is not opened by WireGuard, nor by a cookie alone', () => {
  const proof = new FlowProof('hop')
  assert.equal(proof.admitsOutward(...initiation(1)), false)
  assert.ok(proof.admitsOutward(...message(5, 1_352, 1)))
  assert.equal(proof.admitsInward(...response(1)), false)
  assert.ok(proof.admitsInward(...message(7, 64, 1)), 'a cookie reply comes in')
  assert.equal(proof.isOpen, false)
  assert.ok(proof.admitsInward(...message(6, 1_228, 9, 1)))
  assert.ok(proof.isOpen)
  assert.equal(proof.admitsInward(...message(5, 1_352, 1)), false, 'a hop begins nothing')
})
