// `node bin/node.cjs src/lab/bench/bench-aead.ts`: the ways to seal and open a packet that were weighed, in one run
// (docs/decisions/012-aead.md). Each is checked against the others first.

import assert from 'node:assert/strict'
import { createCipheriv, createDecipheriv } from 'node:crypto'
import { cpus } from 'node:os'
import { bindOpensslCipher } from '#crypto/openssl-cipher.ts'
import { type PacketCipher, TAG_BYTES } from '#crypto/packet-cipher.ts'
import { systemRandom } from '#crypto/random.ts'
import { sodiumCipher } from '#crypto/sodium-cipher.ts'
import { bind } from '#platform/linux/libc.ts'
import { Memory } from '#platform/linux/socket-calls.ts'

const LENGTHS = [64, 576, 1_172, 1_400]
const BATCH = 10_000
const ROUNDS = 15
const OFFSET = 32

const packet = new Memory(8_192)
const key = new Uint8Array(systemRandom(32))
/** Key at 0, nonce at 32, a place for lengths at 64. */
const memory = new Memory(4_096)
const [KEY, NONCE, WRITTEN] = [memory.pointer, memory.pointer + 32n, memory.pointer + 64n]

const candidates: Record<string, PacketCipher | undefined> = {
  'OpenSSL, ChaCha20 and Poly1305 by address': bindOpensslCipher(),
  'OpenSSL, EVP by address': evp(),
  'libsodium through sodium-native': sodiumCipher,
  'libsodium by address': libsodium(),
  'node:crypto': nodeCrypto(),
}

process.stdout.write(`Node ${process.versions.node}, ${cpus()[0]?.model.trim()}; nanoseconds to seal / to open\n`)
process.stdout.write(`${''.padEnd(42)}${LENGTHS.map(length => `${length} B`.padStart(14)).join('')}\n`)
for (const [name, cipher] of Object.entries(candidates)) {
  const figures = LENGTHS.map(length => (cipher === undefined ? 'missing' : measure(cipher, length)))
  process.stdout.write(`${name.padEnd(42)}${figures.map(figure => figure.padStart(14)).join('')}\n`)
}

function measure(cipher: PacketCipher, length: number): string {
  const plain = systemRandom(length)
  const sealed = (by: PacketCipher) => {
    packet.bytes.set(plain, OFFSET)
    by.seal(key, 7, packet.bytes, OFFSET, length)
    return packet.bytes.slice(OFFSET, OFFSET + length + TAG_BYTES)
  }
  const bytes = sealed(cipher)
  assert.deepEqual(bytes, sealed(sodiumCipher))
  const restore = () => packet.bytes.set(bytes, OFFSET)
  const open = () => {
    restore()
    if (!cipher.open(key, 7, packet.bytes, OFFSET, bytes.length)) throw new Error('open what was sealed: refused')
  }
  const seal = fastest(() => cipher.seal(key, 7, packet.bytes, OFFSET, length))
  return `${seal.toFixed(0)} / ${(fastest(open) - fastest(restore)).toFixed(0)}`
}

/** Nanoseconds of one call, in the fastest of some rounds: what disturbs only ever adds. */
function fastest(run: () => void): number {
  let best = Number.POSITIVE_INFINITY
  for (let round = 0; round < ROUNDS; round++) {
    const started = process.hrtime.bigint()
    for (let i = 0; i < BATCH; i++) run()
    best = Math.min(best, Number(process.hrtime.bigint() - started) / BATCH)
  }
  return best
}

function prepare(secret: Uint8Array, counter: number): void {
  memory.bytes.set(secret)
  memory.words[9] = counter
}

/** The interface that OpenSSL documents; a context that keeps its cipher, and takes key and nonce for each packet. */
function evp(): PacketCipher {
  const p = 'pointer'
  const calls = bind({
    EVP_chacha20_poly1305: { arguments: [], return: p },
    EVP_CIPHER_CTX_new: { arguments: [], return: p },
    EVP_CIPHER_CTX_ctrl: { arguments: [p, p, p, p], return: 'int32' },
    EVP_EncryptInit_ex: { arguments: [p, p, p, p, p], return: 'int32' },
    EVP_EncryptUpdate: { arguments: [p, p, p, p, p], return: 'int32' },
    EVP_EncryptFinal_ex: { arguments: [p, p, p], return: 'int32' },
    EVP_DecryptInit_ex: { arguments: [p, p, p, p, p], return: 'int32' },
    EVP_DecryptUpdate: { arguments: [p, p, p, p, p], return: 'int32' },
    EVP_DecryptFinal_ex: { arguments: [p, p, p], return: 'int32' },
  })
  const [GET_TAG, SET_TAG, TAG] = [0x10n, 0x11n, BigInt(TAG_BYTES)]
  const [sealing, opening] = [calls.EVP_CIPHER_CTX_new(), calls.EVP_CIPHER_CTX_new()]
  calls.EVP_EncryptInit_ex(sealing, calls.EVP_chacha20_poly1305(), 0n, KEY, NONCE)
  calls.EVP_DecryptInit_ex(opening, calls.EVP_chacha20_poly1305(), 0n, KEY, NONCE)
  return {
    seal(secret, counter, _, offset, length) {
      prepare(secret, counter)
      const text = BigInt(packet.address + offset)
      calls.EVP_EncryptInit_ex(sealing, 0n, 0n, KEY, NONCE)
      calls.EVP_EncryptUpdate(sealing, text, WRITTEN, text, BigInt(length))
      calls.EVP_EncryptFinal_ex(sealing, text, WRITTEN)
      calls.EVP_CIPHER_CTX_ctrl(sealing, GET_TAG, TAG, BigInt(packet.address + offset + length))
    },
    open(secret, counter, _, offset, length) {
      prepare(secret, counter)
      const text = BigInt(packet.address + offset)
      calls.EVP_DecryptInit_ex(opening, 0n, 0n, KEY, NONCE)
      calls.EVP_CIPHER_CTX_ctrl(opening, SET_TAG, TAG, BigInt(packet.address + offset + length - TAG_BYTES))
      calls.EVP_DecryptUpdate(opening, text, WRITTEN, text, BigInt(length - TAG_BYTES))
      return calls.EVP_DecryptFinal_ex(opening, text, WRITTEN) === 1
    },
  }
}

/** The system's own libsodium, where there is one. */
function libsodium(): PacketCipher | undefined {
  const p = 'pointer'
  const nine = { arguments: [p, p, p, p, p, p, p, p, p], return: 'int32' } as const
  const names = ['crypto_aead_chacha20poly1305_ietf_encrypt', 'crypto_aead_chacha20poly1305_ietf_decrypt'] as const
  try {
    const { functions } = process.getBuiltinModule('node:ffi').dlopen('libsodium.so.23', {
      sodium_init: { arguments: [], return: 'int32' },
      [names[0]]: nine,
      [names[1]]: nine,
    })
    functions.sodium_init()
    return {
      seal(secret, counter, _, offset, length) {
        prepare(secret, counter)
        const text = BigInt(packet.address + offset)
        functions[names[0]](text, WRITTEN, text, BigInt(length), 0n, 0n, 0n, NONCE, KEY)
      },
      open(secret, counter, _, offset, length) {
        prepare(secret, counter)
        const text = BigInt(packet.address + offset)
        return functions[names[1]](text, WRITTEN, 0n, text, BigInt(length), 0n, 0n, NONCE, KEY) === 0
      },
    }
  } catch {
    return undefined
  }
}

function nodeCrypto(): PacketCipher {
  const nonce = Buffer.alloc(12)
  const options = { authTagLength: TAG_BYTES } as const
  return {
    seal(secret, counter, buffer, offset, length) {
      nonce.writeUInt32LE(counter, 4)
      const cipher = createCipheriv('chacha20-poly1305', secret, nonce, options)
      buffer.set(cipher.update(buffer.subarray(offset, offset + length)), offset)
      cipher.final()
      buffer.set(cipher.getAuthTag(), offset + length)
    },
    open(secret, counter, buffer, offset, length) {
      const end = offset + length - TAG_BYTES
      nonce.writeUInt32LE(counter, 4)
      const decipher = createDecipheriv('chacha20-poly1305', secret, nonce, options)
      decipher.setAuthTag(buffer.subarray(end, offset + length))
      buffer.set(decipher.update(buffer.subarray(offset, end)), offset)
      decipher.final()
      return true
    },
  }
}
