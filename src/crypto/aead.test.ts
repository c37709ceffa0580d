import assert from 'node:assert/strict'
import { createCipheriv } from 'node:crypto'
import test from 'node:test'
import { openInPlace, sealInPlace, TAG_BYTES } from './aead.ts'
import { bindOpensslCipher } from './openssl-cipher.ts'
import { seededRandom } from './random.ts'
import { sodiumCipher } from './sodium-cipher.ts'

const LENGTHS = [...Array.from({ length: 132 }, (_, i) => i), 255, 256, 257, 1_172, 1_420, 1_800, 2_048, 65_000]
const COUNTERS = [0, 1, 255, 2 ** 31, 2 ** 32 - 1, 2 ** 32, 2 ** 48, 2 ** 53 - 1]
const MARGIN = 13

const random = seededRandom('aead')
const key = Uint8Array.from(random(32))
const native = bindOpensslCipher()
const ciphers = Object.entries({ libsodium: sodiumCipher, ...(native && { OpenSSL: native }) })

/** What node:crypto seals. */
function expected(counter: number, plain: Uint8Array): Buffer {
  const nonce = Buffer.alloc(12)
  nonce.writeBigUInt64LE(BigInt(counter), 4)
  const cipher = createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: TAG_BYTES })
  return Buffer.concat([cipher.update(plain), cipher.final(), cipher.getAuthTag()])
}

test('OpenSSL can be called on Linux with the pinned Node', t => {
  if (process.platform !== 'linux') return t.skip('not Linux')
  assert.notEqual(native, undefined)
})

for (const [name, cipher] of ciphers) {
  test(`${name} seals as node:crypto does, opens it again, and touches nothing around it`, () => {
    LENGTHS.forEach((length, i) => {
      const counter = COUNTERS[i % COUNTERS.length] ?? 0
      const plain = Uint8Array.from(random(length))
      const buffer = new Uint8Array(70_000).fill(0xa5)
      buffer.set(plain, MARGIN)
      cipher.seal(key, counter, buffer, MARGIN, length)
      const end = MARGIN + length + TAG_BYTES
      assert.deepEqual(Buffer.from(buffer.subarray(MARGIN, end)), expected(counter, plain), `length ${length}`)
      assert.equal(cipher.open(key, counter, buffer, MARGIN, length + TAG_BYTES), true)
      assert.deepEqual(buffer.subarray(MARGIN, MARGIN + length), plain)
      const around = [...buffer.subarray(0, MARGIN), ...buffer.subarray(end)]
      assert.ok(around.every(byte => byte === 0xa5))
    })
  })

  test(`${name} refuses every spoiled bit of a packet, other counters, other keys and every truncation`, () => {
    const length = 40
    const sealed = expected(7, Uint8Array.from(random(length)))
    const opens = (spoil: (buffer: Uint8Array) => void, counter = 7, secret = key, received = sealed.length) => {
      const buffer = new Uint8Array(4_096)
      buffer.set(sealed)
      spoil(buffer)
      return cipher.open(secret, counter, buffer, 0, received)
    }
    assert.equal(
      opens(() => undefined),
      true,
    )
    for (let bit = 0; bit < sealed.length * 8; bit++) {
      const isForged = opens(buffer => {
        buffer[bit >>> 3] = (buffer[bit >>> 3] ?? 0) ^ (1 << (bit & 7))
      })
      assert.equal(isForged, false, `bit ${bit}`)
    }
    assert.equal(
      opens(() => undefined, 8),
      false,
    )
    assert.equal(
      opens(() => undefined, 7, Uint8Array.from(random(32))),
      false,
    )
    for (let received = 0; received < sealed.length; received++) {
      assert.equal(
        opens(() => undefined, 7, key, received),
        false,
      )
    }
  })

  test(`${name} works on nothing outside of a buffer, and with no key of another length`, () => {
    const buffer = new Uint8Array(4_096)
    for (const [offset, length] of [
      [4_096, 0],
      [4_080, 1],
      [0, 4_081],
      [-1, 8],
      [Number.NaN, 8],
      [0, -8_192],
    ] as const) {
      assert.throws(() => cipher.seal(key, 1, buffer, offset, length), `${length} at ${offset}`)
    }
    assert.throws(() => cipher.seal(key.subarray(1), 1, buffer, 0, 8))
  })
}

test('packets in small and in large buffers are sealed alike', () => {
  const plain = Uint8Array.from(random(500))
  for (const size of [516, 4_096, 2 ** 20]) {
    const buffer = Buffer.alloc(size)
    buffer.set(plain)
    sealInPlace(key, 3, buffer, 0, plain.length)
    assert.deepEqual(buffer.subarray(0, 516), expected(3, plain))
    assert.equal(openInPlace(key, 3, buffer, 0, 516), true)
  }
})

test('a buffer whose memory was given away is refused', () => {
  const buffer = new Uint8Array(8_192)
  sealInPlace(key, 1, buffer, 0, 100)
  structuredClone(buffer.buffer, { transfer: [buffer.buffer] })
  assert.throws(() => sealInPlace(key, 2, buffer, 0, 100))
})
