// A port of 127.0.0.1 in a network namespace, to be had here under the same number: a program outside speaks to one inside as if
// both stood on one machine.
//
//   here: 127.0.0.1:PORT ──► a socket in the file system ──► 127.0.0.1:PORT of the host

import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net'
import { fileURLToPath } from 'node:url'
import type { Host } from './netns.ts'
import { waitFor } from './testnet.ts'

export class PortOut implements AsyncDisposable {
  readonly port: number
  readonly #server: Server
  readonly #open: Set<Socket>

  private constructor(server: Server, open: Set<Socket>) {
    this.#server = server
    this.#open = open
    this.port = (server.address() as AddressInfo).port
  }

  /** Takes a free port; `socket` is the path between the two. The process inside ends with the host's laboratory. */
  static async open(host: Host, socket: string): Promise<PortOut> {
    const open = new Set<Socket>()
    const server = createServer(from => {
      open.add(from)
      from.on('close', () => open.delete(from))
      join(from, connect(socket))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    const out = new PortOut(server, open)
    host.start(process.execPath, ['--no-warnings', fileURLToPath(import.meta.url), socket, String(out.port)])
    await waitFor(async () => existsSync(socket) || undefined, 'the way out of the namespace')
    return out
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#open) socket.destroy()
    this.#server.close()
    await once(this.#server, 'close')
  }
}

function join(a: Socket, b: Socket): void {
  for (const [one, other] of [
    [a, b],
    [b, a],
  ] as const) {
    one.on('error', () => other.destroy())
    one.on('close', () => other.destroy())
    one.pipe(other)
  }
}

if (import.meta.main) {
  const [socket, port] = process.argv.slice(2)
  createServer(from => join(from, connect(Number(port), '127.0.0.1'))).listen(socket)
}
