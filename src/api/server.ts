// The API of a running node over a socket that only its owner can open.

import { rmSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { EventHub } from './event-hub.ts'
import { handleApi } from './http.ts'
import type { Handlers } from './table.ts'

const MAX_CONNECTIONS = 64

export interface ApiServer {
  close(): Promise<void>
}

/** Serves `handlers` on a Unix socket (0600) or named pipe; a socket left behind by a killed node is replaced. */
export async function serveApi(
  handlers: Handlers,
  socket: string,
  events: EventHub = new EventHub(),
): Promise<ApiServer> {
  const server = createServer({ requestTimeout: 10_000, headersTimeout: 5_000 }, (request, response) => {
    void handleApi({ handlers, events }, 'owner', request, response)
  })
  server.maxConnections = MAX_CONNECTIONS
  if (process.platform !== 'win32') rmSync(socket, { force: true })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    // The socket is made inside `listen`: it is never open to others, not even for a moment.
    const before = process.umask(0o177)
    server.listen(socket, resolve)
    process.umask(before)
  })
  return { close: () => closeServer(server) }
}

/** Ends every connection and the server. */
export function closeServer(server: Server): Promise<void> {
  return new Promise(resolve => {
    server.close(() => resolve())
    server.closeAllConnections()
  })
}
