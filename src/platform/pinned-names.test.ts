import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { type AddressInfo, connect } from 'node:net'
import test from 'node:test'
import { pinNames } from './pinned-names.ts'

test('a name that was pinned leads to its address, over HTTP and WebSocket, until it is let go', async t => {
  const server = createServer((_, response) => response.end('here'))
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  t.after(() => server.close())
  const { port } = server.address() as AddressInfo
  const end = pinNames(new Map([['rendezvous.invalid', '127.0.0.1']]))
  const text = await (await fetch(`http://rendezvous.invalid:${port}/`)).text()
  assert.equal(text, 'here')
  const asked = new Promise(resolve =>
    server.once('upgrade', (request, socket) => resolve(socket.destroy() && request)),
  )
  const socket = new WebSocket(`ws://rendezvous.invalid:${port}/`)
  socket.onerror = () => undefined
  await asked
  assert.equal((await fetch(`http://127.0.0.1:${port}/`)).status, 200)
  end()
  const error = await new Promise<NodeJS.ErrnoException>(resolve =>
    connect(port, 'rendezvous.invalid').once('error', resolve),
  )
  assert.equal(error.syscall, 'getaddrinfo')
})
