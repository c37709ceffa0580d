// What a helper's process is told by the command that became it, in its environment: nobody else reads that of root.

import type { DaemonLaunch } from './daemon-user.ts'
import type { HelperOrder } from './helper-order.ts'

export const START_VARIABLE = 'HOPLITE_HELPER_START'

export interface HelperStart {
  readonly order: HelperOrder
  readonly launch: DaemonLaunch
  readonly stateDir: string
  /** For the daemon's standard input: a file that only root may read. */
  readonly input?: string
  /** How often a sign of life is waited for, where it is not as usual. */
  readonly beatMs?: number
}
