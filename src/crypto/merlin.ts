// Merlin transcripts: a proof's messages go in, its challenges come out, so that it needs nobody to ask them.
//
// STROBE-128 over Keccak-f[1600] (strobe.sourceforge.io, version 1.0.2), of its operations meta-AD, AD and PRF; and the framing
// of merlin.cool: every message stands behind its label and its length (u32, little-endian).

import { keccakP } from '@noble/hashes/sha3.js'

const RATE = 166
const FLAG = { i: 1, a: 2, c: 4, m: 16 } as const

export class Transcript {
  readonly #lanes = new Uint32Array(50)
  readonly #state = new Uint8Array(this.#lanes.buffer)
  #position = 0
  #begin = 0

  /** @param label names the proof; both sides have the same */
  constructor(label: string) {
    this.#state.set([1, RATE + 2, 1, 0, 1, 96])
    this.#state.set(Buffer.from('STROBEv1.0.2'), 6)
    keccakP(this.#lanes)
    this.#operate(FLAG.m | FLAG.a)
    this.#absorb(Buffer.from('Merlin v1.0'))
    this.append('dom-sep', Buffer.from(label))
  }

  append(label: string, message: Uint8Array): void {
    this.#frame(label, message.length)
    this.#operate(FLAG.a)
    this.#absorb(message)
  }

  /** Appends a number below 2^53 as 8 bytes, little-endian. */
  appendNumber(label: string, value: number): void {
    const bytes = Buffer.alloc(8)
    bytes.writeBigUInt64LE(BigInt(value))
    this.append(label, bytes)
  }

  /** So many bytes that depend on everything before. */
  challenge(label: string, length: number): Uint8Array {
    this.#frame(label, length)
    this.#operate(FLAG.i | FLAG.a | FLAG.c)
    const bytes = new Uint8Array(length)
    for (let i = 0; i < length; i++) {
      bytes[i] = this.#state[this.#position] ?? 0
      this.#state[this.#position] = 0
      this.#step()
    }
    return bytes
  }

  #frame(label: string, length: number): void {
    this.#operate(FLAG.m | FLAG.a)
    this.#absorb(Buffer.from(label))
    const bytes = Buffer.alloc(4)
    bytes.writeUInt32LE(length)
    this.#absorb(bytes)
  }

  #operate(flags: number): void {
    const before = this.#begin
    this.#begin = this.#position + 1
    this.#absorb(Uint8Array.of(before, flags))
    if ((flags & FLAG.c) !== 0 && this.#position !== 0) this.#permute()
  }

  #absorb(bytes: Uint8Array): void {
    for (const byte of bytes) {
      this.#state[this.#position] = (this.#state[this.#position] ?? 0) ^ byte
      this.#step()
    }
  }

  #step(): void {
    if (++this.#position === RATE) this.#permute()
  }

  #permute(): void {
    const flip = (at: number, by: number) => {
      this.#state[at] = (this.#state[at] ?? 0) ^ by
    }
    flip(this.#position, this.#begin)
    flip(this.#position + 1, 4)
    flip(RATE + 1, 0x80)
    keccakP(this.#lanes)
    this.#position = 0
    this.#begin = 0
  }
}
