// Memory in which sums are taken with vector instructions, eight 16-bit numbers at a time: as WebAssembly sees only its own
// memory, what is to be summed fast has to lie in there. For everything else it is memory like any other.

const PAGE_BYTES = 65_536

/** Adds up the 16-bit little-endian numbers from `at` to `end`, a positive multiple of 16 and at most 128 KiB apart. */
export type VectorSum = (at: number, end: number) => number

const sums = new WeakMap<ArrayBufferLike, VectorSum>()
let program: WebAssembly.Module | undefined

/** Memory of `size` bytes, zeroed; where vector instructions are not to be had, it is plain memory. */
export function vectorMemory(size: number): Uint8Array {
  try {
    const pages = Math.ceil(size / PAGE_BYTES)
    const memory = new WebAssembly.Memory({ initial: pages, maximum: pages })
    program ??= new WebAssembly.Module(PROGRAM)
    const { exports } = new WebAssembly.Instance(program, { m: { m: memory } })
    sums.set(memory.buffer, exports['sum'] as VectorSum)
    return Buffer.from(memory.buffer, 0, size)
  } catch {
    // A processor without them, or a limit on addresses: WebAssembly keeps gigabytes free of use around its memory.
    return Buffer.alloc(size)
  }
}

/** What sums up the whole memory that the buffer is a view of; undefined for plain memory. */
export function vectorSumOf(buffer: Uint8Array): VectorSum | undefined {
  return sums.get(buffer.buffer)
}

// (module
//   (import "m" "m" (memory 0))
//   (func (export "sum") (param $at i32) (param $end i32) (result i32) (local $lanes v128) …))
const PROGRAM = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00],
  ...[0x01, 7, 1, 0x60, 2, 0x7f, 0x7f, 1, 0x7f], // type (i32, i32) → i32
  ...[0x02, 8, 1, 1, 0x6d, 1, 0x6d, 0x02, 0x00, 0], // import memory
  ...[0x03, 2, 1, 0], // one function of that type
  ...[0x07, 7, 1, 3, 0x73, 0x75, 0x6d, 0x00, 0], // export it
  ...[0x0a, 59, 1, 57, 1, 1, 0x7b], // its code: one local of v128
  ...[0x03, 0x40], // loop
  ...[0x20, 2, 0x20, 0, 0xfd, 0x00, 0, 0], //   lanes, load at
  ...[0xfd, 0x7f, 0xfd, 0xae, 0x01, 0x21, 2], //   extadd_pairwise_i16x8_u, i32x4.add, into lanes
  ...[0x20, 0, 0x41, 16, 0x6a, 0x22, 0], //   at + 16, into at
  ...[0x20, 1, 0x49, 0x0d, 0, 0x0b], //   again while below end
  ...[0x20, 2, 0xfd, 0x1b, 0, 0x20, 2, 0xfd, 0x1b, 1, 0x6a], // lane 0 + lane 1
  ...[0x20, 2, 0xfd, 0x1b, 2, 0x6a, 0x20, 2, 0xfd, 0x1b, 3, 0x6a], // + lane 2 + lane 3
  0x0b,
)
