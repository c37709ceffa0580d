import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { assertUndone } from '#daemon/tunnel-network.ts'
import { socketPath, stateDirectory } from '#platform/directories.ts'
import { isAlive } from '#platform/process-life.ts'
import { print } from '../output.ts'

const STOP_MS = 15_000
const POLL_MS = 25

/**
 * Stops the daemon and waits until its process has ended: what it changed of the network is then undone. One that does not run
 * is no error. Throws DAEMON_FAILED, or CHANGES_PENDING when something could not be undone.
 */
export async function down(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  const wasRunning = await stop(socketPath(stateDir))
  if (wasRunning) assertUndone(stateDir)
  print(options.json, { ok: true, wasRunning }, wasRunning ? 'Disconnected.' : 'The daemon was not running.')
}

/** Whether there was one to stop. */
async function stop(socket: string): Promise<boolean> {
  try {
    const { pid } = await callAction(socket, 'status', {})
    await callAction(socket, 'down', {})
    await gone(pid)
    return true
  } catch (error) {
    if (error instanceof HopliteError && error.code === 'DAEMON_NOT_RUNNING') return false
    throw error
  }
}

async function gone(pid: number): Promise<void> {
  const until = Date.now() + STOP_MS
  while (Date.now() < until) {
    if (!isAlive(pid)) return
    await new Promise(resolve => setTimeout(resolve, POLL_MS))
  }
  throw new HopliteError('DAEMON_FAILED', 'stop the daemon: it still runs', 'look into its log, or end its process')
}
