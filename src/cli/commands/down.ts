import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { socketPath, stateDirectory } from '#platform/directories.ts'
import { isStateLocked } from '#platform/state-lock.ts'
import { print } from '../output.ts'

const STOP_MS = 20_000

/** Stops the daemon and waits until it has put everything back. One that does not run is no error. */
export async function down(options: { stateDir?: string; json?: boolean }): Promise<void> {
  const stateDir = stateDirectory(options.stateDir)
  let wasRunning = true
  try {
    await callAction(socketPath(stateDir), 'down', {})
    await gone(stateDir)
  } catch (error) {
    if (!(error instanceof HopliteError) || error.code !== 'DAEMON_NOT_RUNNING') throw error
    wasRunning = false
  }
  print(options.json, { ok: true, wasRunning }, wasRunning ? 'Disconnected.' : 'The daemon was not running.')
}

/** Waits for the lock: the daemon gives it back last, long after it has stopped to answer. */
async function gone(stateDir: string): Promise<void> {
  const until = Date.now() + STOP_MS
  while (Date.now() < until) {
    if (!isStateLocked(stateDir)) return
    await new Promise(resolve => setTimeout(resolve, 50))
  }
  throw new HopliteError('DAEMON_FAILED', 'stop the daemon: it still runs', 'look into its log, or end its process')
}
