import { callAction } from '#api/client.ts'
import { HopliteError } from '#api/errors.ts'
import { isNetworkLeft } from '#daemon/client/recovery.ts'
import { assertUndone } from '#daemon/entry/tunnel-network.ts'
import { socketPath, stateDirectory } from '#platform/state/directories.ts'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { print } from '../output.ts'

const SHUT = 'The daemon was not running. It has left the network shut: "hoplite recover" opens it.'
const STOP_MS = 20_000

export interface DownOptions {
  readonly stateDir?: string
  /** The kill switch stands until the next start. */
  readonly stayShut?: boolean
  readonly json?: boolean
}

/**
 * Stops the daemon and waits until it has put everything back. One that does not run is no error. Throws DAEMON_FAILED,
 * CHANGES_PENDING when something could not be put back, or REQUEST_INVALID when there is nothing that could stay shut.
 */
export async function down({ stateDir: named, stayShut: staysShut = false, json }: DownOptions): Promise<void> {
  const stateDir = stateDirectory(named)
  const socket = socketPath(stateDir)
  let wasRunning = true
  try {
    if (staysShut) await assertShut(socket)
    await callAction(socket, 'down', staysShut ? { staysShut } : {})
    await gone(stateDir)
    if (!staysShut) assertUndone(stateDir)
  } catch (error) {
    if (!(error instanceof HopliteError) || error.code !== 'DAEMON_NOT_RUNNING') throw error
    wasRunning = false
  }
  const isShut = !wasRunning && isNetworkLeft(stateDir)
  const done = staysShut
    ? 'Stopped. Nothing leaves this machine until it is started again, or "hoplite recover".'
    : 'Disconnected.'
  print(json, { ok: true, wasRunning }, wasRunning ? done : isShut ? SHUT : 'The daemon was not running.')
}

async function assertShut(socket: string): Promise<void> {
  const { killSwitch } = await callAction(socket, 'status', {})
  if (killSwitch === true) return
  throw new HopliteError('REQUEST_INVALID', 'stay shut: the node has no kill switch', 'hoplite down stops it')
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
