// Unix sockets that a process left behind when it died: their paths are taken, and nobody listens.

import { lstatSync, rmSync } from 'node:fs'
import { connect } from 'node:net'

/** Removes a socket that nobody listens on; what is no socket, or answers, is `EADDRINUSE`. */
export async function removeStaleSocket(socket: string): Promise<void> {
  const before = lstatSync(socket, { throwIfNoEntry: false })
  if (before === undefined) return
  if (!before.isSocket() || (await isAnswered(socket))) throw Object.assign(new Error(), { code: 'EADDRINUSE' })
  // Another process may have replaced it while we asked.
  if (lstatSync(socket, { throwIfNoEntry: false })?.ino === before.ino) rmSync(socket, { force: true })
}

function isAnswered(socket: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(socket)
    probe.once('connect', () => {
      probe.destroy()
      resolve(true)
    })
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false)
      // A full queue of connections is a sign of life.
      else if (error.code === 'EAGAIN') resolve(true)
      else reject(error)
    })
  })
}
