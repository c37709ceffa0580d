// Round trips of small messages: datagrams where IP goes through, else one TCP connection. They are sent at a fixed rate whether
// or not the one before has come back, so that a stall costs as many samples as it lasts.

import { createSocket } from 'node:dgram'
import { ORIGIN_ADDRESS, ORIGIN_PORT } from '../origin-address.ts'
import type { Access } from '../subject.ts'
import { connectOrigin } from './connect.ts'

const LAST_WAIT_MS = 1_000
const MESSAGE_BYTES = 16

interface Wire {
  send(message: Buffer): void
  close(): void
}

/** Round trip times in milliseconds, in order of arrival, and how many messages were sent, one every `everyMs`. */
export async function roundTrips(
  access: Access,
  { durationMs, everyMs }: { durationMs: number; everyMs: number },
): Promise<{ sent: number; samplesMs: number[] }> {
  const samplesMs: number[] = []
  const onMessage = (message: Buffer) => samplesMs.push(performance.now() - message.readDoubleBE(8))
  const wire = access.kind === 'ip' ? datagrams(onMessage) : await connection(access, onMessage)
  const startedMs = performance.now()
  let sent = 0
  // A timer may be late; what it has missed is sent then.
  while (performance.now() - startedMs < durationMs) {
    while (sent * everyMs < performance.now() - startedMs) {
      const message = Buffer.alloc(MESSAGE_BYTES)
      message.writeUInt32BE(sent++, 0)
      message.writeDoubleBE(performance.now(), 8)
      wire.send(message)
    }
    await new Promise(resolve => setTimeout(resolve, 1))
  }
  const untilMs = performance.now() + LAST_WAIT_MS
  while (samplesMs.length < sent && performance.now() < untilMs) await new Promise(resolve => setTimeout(resolve, 5))
  wire.close()
  return { sent, samplesMs }
}

function datagrams(onMessage: (message: Buffer) => void): Wire {
  const socket = createSocket('udp4')
  socket.on('message', onMessage)
  socket.on('error', () => undefined)
  return {
    send: message => socket.send(message, ORIGIN_PORT, ORIGIN_ADDRESS, () => undefined),
    close: () => socket.close(),
  }
}

async function connection(access: Access, onMessage: (message: Buffer) => void): Promise<Wire> {
  const socket = await connectOrigin(access, 'echo')
  let left: Buffer = Buffer.alloc(0)
  socket.on('error', () => undefined)
  socket.on('data', chunk => {
    left = Buffer.concat([left, chunk as Buffer])
    for (; left.length >= MESSAGE_BYTES; left = left.subarray(MESSAGE_BYTES)) onMessage(left.subarray(0, MESSAGE_BYTES))
  })
  return { send: message => socket.write(message), close: () => socket.destroy() }
}
