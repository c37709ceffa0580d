// Joins two byte streams both ways: what one side ends, the other ends; what one side breaks, the other breaks.

import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'

/** Joins `a` and `b`; `done` is called once, when both are closed, with the bytes that went from `a` and to `a`. */
export function splice(a: Duplex, b: Duplex, done: (fromA: number, toA: number) => void = () => {}): void {
  let fromA = 0
  let toA = 0
  let open = 2
  const closed = () => {
    if (--open === 0) done(fromA, toA)
  }
  a.on('data', (chunk: Uint8Array) => {
    fromA += chunk.length
  })
  b.on('data', (chunk: Uint8Array) => {
    toA += chunk.length
  })
  watch(a, b, closed)
  watch(b, a, closed)
  a.pipe(b)
  b.pipe(a)
}

/** Ends a stream so that its other side notices: TCP connections are reset. */
export function reset(stream: Duplex): void {
  if (stream.destroyed) return
  if (stream instanceof Socket) stream.resetAndDestroy()
  else stream.destroy(new Error('reset'))
}

function watch(stream: Duplex, other: Duplex, closed: () => void): void {
  stream.on('error', () => reset(other))
  if (stream.closed) {
    // It broke before it was joined: its events are over.
    process.nextTick(() => {
      if (!hasEndedCleanly(stream)) reset(other)
      closed()
    })
    return
  }
  stream.once('close', () => {
    if (!hasEndedCleanly(stream)) reset(other)
    closed()
  })
}

/** A stream that closed before both of its directions ended was cut off. */
function hasEndedCleanly(stream: Duplex): boolean {
  return stream.errored === null && stream.readableEnded && stream.writableFinished
}
