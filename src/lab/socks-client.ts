// A SOCKS5 client for tests and the demo: names go to the proxy as they are.

import { createHash } from 'node:crypto'
import { request as httpRequest } from 'node:http'
import { connect, type Socket } from 'node:net'

export interface ProxyAddress {
  readonly host: string
  readonly port: number
}

/** A connection through the proxy; rejects with the SOCKS reply code in the message. */
export async function socksConnect(proxy: ProxyAddress, host: string, port: number, user?: string): Promise<Socket> {
  const socket = connect({ ...proxy, allowHalfOpen: true, noDelay: true })
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve)
    socket.once('error', reject)
  })
  const read = reader(socket)
  socket.write(Uint8Array.of(5, 1, user === undefined ? 0 : 2))
  await read(2)
  if (user !== undefined) {
    const name = Buffer.from(user)
    socket.write(Buffer.concat([Uint8Array.of(1, name.length), name, Uint8Array.of(1, 0x78)]))
    await read(2)
  }
  const name = Buffer.from(host)
  socket.write(Buffer.concat([Uint8Array.of(5, 1, 0, 3, name.length), name, Uint8Array.of(port >> 8, port & 0xff)]))
  const reply = await read(4)
  if (reply[1] !== 0) {
    socket.destroy()
    throw new Error(`the proxy refused: reply ${reply[1]}`)
  }
  await read(reply[3] === 4 ? 18 : 6)
  return socket
}

export interface Fetched {
  readonly status: number
  readonly bytes: number
  readonly sha256: string
  readonly body: string
  /** From the first packet to the proxy to the first byte of the body. */
  readonly firstByteMs: number
  /** The longest time between two pieces of the body. */
  readonly longestStallMs: number
  readonly totalMs: number
}

/** GET through the proxy; the body is hashed, and its first 64 KiB kept. */
export async function fetchThrough(
  proxy: ProxyAddress,
  host: string,
  port: number,
  path: string,
  options: { user?: string; onBytes?: (total: number) => void } = {},
): Promise<Fetched> {
  const startedMs = performance.now()
  const socket = await socksConnect(proxy, host, port, options.user)
  return new Promise((resolve, reject) => {
    const sent = httpRequest(
      { createConnection: () => socket, host, port, path, headers: { connection: 'close' } },
      response => {
        const hash = createHash('sha256')
        const kept: Buffer[] = []
        let bytes = 0
        let firstByteMs = 0
        let lastMs = performance.now()
        let longestStallMs = 0
        response.on('data', (chunk: Buffer) => {
          const now = performance.now()
          if (bytes === 0) firstByteMs = now - startedMs
          else longestStallMs = Math.max(longestStallMs, now - lastMs)
          lastMs = now
          hash.update(chunk)
          if (bytes < 65_536) kept.push(chunk)
          bytes += chunk.length
          options.onBytes?.(bytes)
        })
        response.on('error', reject)
        response.on('end', () => {
          const length = Number(response.headers['content-length'] ?? bytes)
          if (length !== bytes) return reject(new Error(`the body ended after ${bytes} of ${length} bytes`))
          const totalMs = performance.now() - startedMs
          const body = Buffer.concat(kept).subarray(0, 65_536).toString('utf8')
          resolve({
            status: response.statusCode ?? 0,
            bytes,
            sha256: hash.digest('hex'),
            body,
            firstByteMs,
            longestStallMs,
            totalMs,
          })
        })
      },
    )
    sent.on('error', reject)
    sent.end()
  })
}

function reader(socket: Socket): (length: number) => Promise<Buffer> {
  return async length => {
    for (;;) {
      const chunk = socket.read(length) as Buffer | null
      if (chunk !== null) return chunk
      if (socket.readableEnded || socket.destroyed) throw new Error('the proxy closed the connection')
      await new Promise<void>((resolve, reject) => {
        const settle = (error?: Error) => {
          socket.off('readable', settle)
          socket.off('end', settle)
          socket.off('error', reject)
          if (error instanceof Error) reject(error)
          else resolve()
        }
        socket.once('readable', settle)
        socket.once('end', settle)
        socket.once('error', reject)
      })
    }
  }
}
