// The packet cipher by the two primitives of the OpenSSL inside Node, called through node:ffi. They are put together as RFC 8439
// §2.8 says: block 0 of the key stream is the one-time key, blocks 1 and on are for the text; Poly1305 runs over the ciphertext,
// zeros up to 16 bytes, and both lengths.
//
//   input    64 zeros       │ text, from the packet ─┐ ChaCha20 over both: one call for key and text
//   output   one-time key …  │ text, to the packet  ◄─┘ zeros and lengths are put behind the ciphertext: one call of Poly1305
//
// The packet is copied in and out of memory of our own for that: two copies take 60 ns less than two calls more.
//
// Traps: calls whose arguments are pointers alone are compiled into their caller (4 ns); with an integer among four of them a call
// takes 290 ns. So lengths are declared as pointers: the same registers on x86-64 and arm64. The calls work on raw memory: only
// inside the bounds of a buffer, and only of one that cannot move.

import { createRequire } from 'node:module'
import { KEY_BYTES, type PacketCipher, TAG_BYTES } from './packet-cipher.ts'
import { sodiumCipher } from './sodium-cipher.ts'

type Ffi = typeof import('node:ffi')

/** Buffers from this length on can be worked on: V8 keeps their bytes outside of its heap, where nothing moves. */
export const OPENSSL_BUFFER_BYTES = 4_096

/** Longer than what a datagram holds. */
const MAX_TEXT_BYTES = 65_536
const BLOCK_BYTES = 64
/** ChaCha20 takes this much at once where the processor has the widest vectors, and up to a quarter of it nearly twice as fast. */
const STRIDE_BYTES = 1_024

// Where things lie in the memory that the calls use beside packets.
const KEY = 0
/** The last words of the cipher's state: block counter u32, zero u32, packet counter u64. */
const STATE = 32
/** 16 zeros, of which those are taken that the text lacks to a multiple of 16; length of associated data u64, of the text u64. */
const LENGTHS = 64
const TAG = 128
/** The address of a packet, u64. */
const POINTER = 160
const POLY1305 = 256
const MAX_POLY1305_BYTES = 1_024
const INPUT = 2_048
const OUTPUT = INPUT + BLOCK_BYTES + MAX_TEXT_BYTES + STRIDE_BYTES
const MEMORY_BYTES = OUTPUT + BLOCK_BYTES + MAX_TEXT_BYTES + STRIDE_BYTES

/** The cipher; `undefined` where this Node cannot call its OpenSSL, or that gives other bytes than libsodium. */
export function bindOpensslCipher(): PacketCipher | undefined {
  try {
    const cipher = bind(createRequire(import.meta.url)('node:ffi') as Ffi)
    return cipher !== undefined && isRight(cipher) ? cipher : undefined
  } catch {
    return undefined
  }
}

function bind(ffi: Ffi): PacketCipher | undefined {
  const p = 'pointer'
  const { functions } = ffi.dlopen(null, {
    ChaCha20_ctr32: { arguments: [p, p, p, p, p], return: 'void' },
    Poly1305_ctx_size: { arguments: [], return: 'uint32' },
    Poly1305_Init: { arguments: [p, p], return: 'void' },
    Poly1305_Update: { arguments: [p, p, p], return: 'void' },
    Poly1305_Final: { arguments: [p, p], return: 'void' },
    memcpy: { arguments: [p, p, p], return: 'void' },
  })
  const { ChaCha20_ctr32: chacha20, memcpy: copy } = functions
  const { Poly1305_Init: init, Poly1305_Update: update, Poly1305_Final: final } = functions
  if (functions.Poly1305_ctx_size() > MAX_POLY1305_BYTES) return undefined

  const memory = new Uint8Array(MEMORY_BYTES)
  const words = new Uint32Array(memory.buffer)
  const pointers = new BigUint64Array(memory.buffer)
  const base = ffi.getRawPointer(memory)
  const at = (offset: number) => base + BigInt(offset)
  const [key, state, tag, poly1305] = [at(KEY), at(STATE), at(TAG), at(POLY1305)]
  const [input, output] = [at(INPUT), at(OUTPUT)]
  const [inputText, outputText] = [at(INPUT + BLOCK_BYTES), at(OUTPUT + BLOCK_BYTES)]
  /** By the number of zeros before them. */
  const lengths = Array.from({ length: 16 }, (_, count) => at(LENGTHS + 16 - count))
  // Integers and pointers as calls take them, made once: each would be garbage, and a sum of them takes as long as a call.
  const integers = Array.from({ length: 2_048 }, (_, i) => BigInt(i))
  const inputs = integers.map(i => input + i)
  const outputs = integers.map(i => output + i)
  const addresses = new WeakMap<Uint8Array, number>()
  let lastBuffer: Uint8Array = memory
  let lastAddress = Number(base)

  return {
    seal(secret, counter, buffer, offset, length) {
      const text = pointerTo(buffer, offset, length + TAG_BYTES)
      copy(inputText, text, integer(length))
      encipher(secret, counter, length)
      const behind = outputs[BLOCK_BYTES + length] ?? outputText + BigInt(length)
      authenticate(outputText, length, behind, behind)
      copy(text, outputText, integer(length + TAG_BYTES))
    },
    open(secret, counter, buffer, offset, length) {
      if (length < TAG_BYTES) return false
      const text = pointerTo(buffer, offset, length)
      const textLength = length - TAG_BYTES
      copy(inputText, text, integer(textLength))
      encipher(secret, counter, textLength)
      authenticate(inputText, textLength, inputs[BLOCK_BYTES + textLength] ?? inputText + BigInt(textLength), tag)
      if (!isTag(buffer, offset + textLength)) return false
      copy(text, outputText, integer(textLength))
      return true
    },
  }

  function pointerTo(buffer: Uint8Array, offset: number, length: number): bigint {
    const isInside = offset >= 0 && length >= TAG_BYTES && offset + length <= buffer.length
    if (!isInside || length > MAX_TEXT_BYTES + TAG_BYTES)
      throw new RangeError(`work on a packet: ${length} bytes at ${offset} of ${buffer.length}`)
    if (buffer !== lastBuffer) {
      lastAddress = addresses.get(buffer) ?? Number(ffi.getRawPointer(buffer))
      lastBuffer = buffer
      addresses.set(buffer, lastAddress)
    }
    // Compiled without an object, which BigInt(address) would make.
    const address = lastAddress + offset
    words[POINTER >>> 2] = address % 0x1_0000_0000
    words[(POINTER >>> 2) + 1] = Math.floor(address / 0x1_0000_0000)
    return pointers[POINTER >>> 3] ?? 0n
  }

  /** From the input to the output: the one-time key, and the text of `length` bytes. */
  function encipher(secret: Uint8Array, counter: number, length: number): void {
    if (secret.length !== KEY_BYTES) throw new RangeError(`work on a packet: a key of ${secret.length} bytes`)
    memory.set(secret, KEY)
    words[STATE >>> 2] = 0
    words[(STATE >>> 2) + 2] = counter % 0x1_0000_0000
    words[(STATE >>> 2) + 3] = Math.floor(counter / 0x1_0000_0000)
    const total = BLOCK_BYTES + length
    const rest = total % STRIDE_BYTES
    const strides = rest > STRIDE_BYTES / 4 ? total + STRIDE_BYTES - rest : total - rest
    if (strides > 0) chacha20(output, input, integer(strides), key, state)
    if (strides >= total) return
    words[STATE >>> 2] = strides / BLOCK_BYTES
    const [from, to] = [inputs[strides] ?? at(INPUT + strides), outputs[strides] ?? at(OUTPUT + strides)]
    chacha20(to, from, integer(rest), key, state)
  }

  /** Writes the tag of a ciphertext in our memory to `to`; what is `behind` the text is overwritten. */
  function authenticate(text: bigint, length: number, behind: bigint, to: bigint): void {
    const missing = -length & 15
    words[(LENGTHS >>> 2) + 6] = length
    copy(behind, lengths[missing] ?? base, integer(missing + 16))
    init(poly1305, output)
    update(poly1305, text, integer(length + missing + 16))
    final(poly1305, to)
  }

  /** Whether the tag at `offset` is the one just reckoned; takes the same time whatever they are. */
  function isTag(buffer: Uint8Array, offset: number): boolean {
    let difference = 0
    for (let i = 0; i < TAG_BYTES; i++) difference |= (buffer[offset + i] ?? 0) ^ (memory[TAG + i] ?? 0)
    return difference === 0
  }

  function integer(value: number): bigint {
    return integers[value] ?? BigInt(value)
  }
}

/** Seals as libsodium does, opens that, and refuses it when it is spoiled. */
function isRight(cipher: PacketCipher): boolean {
  const key = Uint8Array.from({ length: KEY_BYTES }, (_, i) => i)
  const [ours, theirs] = [new Uint8Array(OPENSSL_BUFFER_BYTES), new Uint8Array(OPENSSL_BUFFER_BYTES)]
  for (const length of [1, 16, 333, 1_420]) {
    const counter = 2 ** 32 * length + 7
    cipher.seal(key, counter, ours, 5, length)
    sodiumCipher.seal(key, counter, theirs, 5, length)
    if (Buffer.compare(ours, theirs) !== 0) return false
    const isOpened = cipher.open(key, counter, ours, 5, length + TAG_BYTES)
    sodiumCipher.open(key, counter, theirs, 5, length + TAG_BYTES)
    if (!isOpened || Buffer.compare(ours, theirs) !== 0) return false
    if (cipher.open(key, counter, ours, 5, length + TAG_BYTES)) return false
  }
  return true
}
