// Copies. `slice` of a Uint8Array copies, but `slice` of a Buffer is a view of the same memory: what is kept beyond a call,
// or is overwritten later, goes through here.

/** A copy of the bytes from `from` to `to`, in memory of its own. */
export function copyBytes(bytes: Uint8Array, from = 0, to = bytes.length): Uint8Array {
  return new Uint8Array(bytes.subarray(from, to))
}

/** Copies `length` bytes from one place to another, which may overlap, and makes nothing: no view, no garbage. */
export function copyInto(from: Uint8Array, fromAt: number, length: number, to: Uint8Array, toAt: number): void {
  Buffer.prototype.copy.call(from, to, toAt, fromAt, fromAt + length)
}
