// The origin: a small server that stands for the internet. HTTP, and a UDP echo. It is a process of its own, started with an
// IPC channel, and records what it saw.
//
//   GET /page…          a page that names the path and the address it saw
//   GET /bytes/N        N bytes (at most 16 GiB), the same ones every time
//   POST /echo          the body, back
//   GET /observation    what it saw: addresses of connections, and the markers in paths

import { createSocket } from 'node:dgram'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import { pattern } from './pattern.ts'

const MAX_BYTES = 16 * 2 ** 30

const host = process.argv[2] ?? '127.0.0.1'
const addresses = new Set<string>()
const paths = new Set<string>()

const server = createServer((request, response) => {
  const path = request.url ?? '/'
  if (path !== '/observation') {
    addresses.add(`${request.socket.remoteAddress}:${request.socket.remotePort}`)
    if (paths.size < 1_000) paths.add(path)
  }
  if (path === '/observation') return json(response, { addresses: [...addresses], paths: [...paths] })
  if (path.startsWith('/page')) return page(request, response, path)
  const bytes = /^\/bytes\/([0-9]{1,12})$/.exec(path)
  if (bytes) return send(response, Math.min(Number(bytes[1]), MAX_BYTES))
  if (path === '/echo' && request.method === 'POST') {
    response.writeHead(200)
    request.pipe(response)
    return
  }
  response.writeHead(404).end('not found\n')
})
server.keepAliveTimeout = 60_000

const echo = createSocket(host.includes(':') ? 'udp6' : 'udp4')
echo.on('message', (message, from) => {
  addresses.add(`${from.address}:${from.port}`)
  echo.send(message, from.port, from.address)
})

server.listen(0, host, () => {
  echo.bind(0, host, () => {
    const bound = server.address()
    process.send?.({ http: typeof bound === 'object' ? bound?.port : 0, udp: echo.address().port })
  })
})
process.once('disconnect', () => process.exit(0))
process.once('SIGTERM', () => process.exit(0))

function page(request: IncomingMessage, response: ServerResponse, path: string): void {
  const body = `<!doctype html>\n<title>Hoplite origin</title>\n<p>You asked for ${encodeURI(path)}</p>\n<p>You come from ${request.socket.remoteAddress}</p>\n`
  response.writeHead(200, { 'content-type': 'text/html', 'content-length': Buffer.byteLength(body) }).end(body)
}

function send(response: ServerResponse, length: number): void {
  response.writeHead(200, { 'content-type': 'application/octet-stream', 'content-length': length })
  let at = 0
  const more = () => {
    while (at < length) {
      const chunk = pattern(at, Math.min(65_536, length - at))
      at += chunk.length
      if (!response.write(chunk)) return response.once('drain', more)
    }
    return response.end()
  }
  more()
}

function json(response: ServerResponse, value: unknown): void {
  response.writeHead(200, { 'content-type': 'application/json' }).end(JSON.stringify(value))
}
