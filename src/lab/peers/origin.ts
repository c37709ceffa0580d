// The origin's server, a process of its own: TCP on one port, where the first byte says what the client wants, and a UDP echo.
//
//   's'  source   bytes without end
//   'k'  sink     takes bytes, and tells every 50 ms how many there were: 8 bytes, big-endian
//   'e'  echo     the rest comes back

import { createSocket } from 'node:dgram'
import { createServer, type Socket } from 'node:net'
import { ORIGIN_PORT, VERBS } from './origin-address.ts'

const CHUNK = Buffer.alloc(256 * 1024, 0x5a)
const REPORT_MS = 50

const host = process.argv[2] ?? '127.0.0.1'
const server = createServer({ noDelay: true }, socket => {
  socket.on('error', () => socket.destroy())
  socket.once('data', first => {
    const rest = (first as Buffer).subarray(1)
    const verb = String.fromCharCode((first as Buffer)[0] ?? 0)
    if (verb === VERBS.source) source(socket)
    else if (verb === VERBS.sink) sink(socket, rest.length)
    else if (verb === VERBS.echo) echo(socket, rest)
    else socket.destroy()
  })
})

const datagrams = createSocket({ type: 'udp4', recvBufferSize: 1 << 20 })
datagrams.on('message', (message, from) => datagrams.send(message, from.port, from.address, () => undefined))
datagrams.bind(ORIGIN_PORT, host, () =>
  server.listen(ORIGIN_PORT, host, () => {
    process.stdout.write('ready\n')
  }),
)

function source(socket: Socket): void {
  const more = () => {
    while (!socket.destroyed && socket.write(CHUNK)) continue
  }
  socket.on('drain', more)
  socket.resume()
  more()
}

function sink(socket: Socket, already: number): void {
  let total = already
  const report = Buffer.alloc(8)
  const timer = setInterval(() => {
    report.writeBigUInt64BE(BigInt(total))
    socket.write(Buffer.from(report))
  }, REPORT_MS)
  socket.on('data', chunk => {
    total += chunk.length
  })
  socket.on('close', () => clearInterval(timer))
}

function echo(socket: Socket, rest: Uint8Array): void {
  if (rest.length > 0) socket.write(rest)
  socket.pipe(socket)
}
