import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { socketPath, stateDirectory } from '#platform/directories.ts'
import { print } from '../output.ts'

const STOP_MS = 10_000

/** Stops the daemon and waits until it has. One that does not run is no error. */
export async function down(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const socket = socketPath(stateDirectory(options.stateDir))
  let wasRunning = true
  try {
    await callAction(socket, 'down', {})
    await gone(socket)
  } catch (error) {
    if (!(error instanceof HopliteError) || error.code !== 'DAEMON_NOT_RUNNING') throw error
    wasRunning = false
  }
  print(options.json, { ok: true, wasRunning }, wasRunning ? 'Disconnected.' : 'The daemon was not running.')
}

async function gone(socket: string): Promise<void> {
  const until = Date.now() + STOP_MS
  while (Date.now() < until) {
    try {
      await callAction(socket, 'status', {})
    } catch {
      return
    }
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new HopliteError('DAEMON_FAILED', 'stop the daemon: it still runs', 'look into its log, or end its process')
}
