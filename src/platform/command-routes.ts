// Which worker of a data plane a command is for. A pure function; what has to be split up is not decided here.

import type { Command } from '#forward/commands.ts'

/** The worker that a session belongs to, the first one, or all. */
export type CommandRoute = { readonly session: number } | 'first' | 'all'

export function routeOf(command: Command): CommandRoute {
  switch (command.kind) {
    case 'limitLent':
    case 'sweep':
    case 'observe':
    case 'reportObservation':
    case 'openPort':
    case 'closePort':
    case 'crash':
      return 'all'
    case 'sendHandshake':
      if (command.via.kind === 'flow') return { session: command.via.session }
      return command.session === undefined ? 'first' : { session: command.session }
    // Handshakes come to the first worker alone.
    case 'grantHandshakes':
    // Nodes that meet others at punched sockets have one worker.
    case 'openPunched':
    case 'closePunched':
    // What belongs to clients, whose data plane has one worker.
    case 'installAssociationTarget':
    case 'removeAssociation':
    case 'installEntry':
    case 'removeEntry':
    case 'installLeg':
    case 'useLeg':
    case 'removeLeg':
    case 'proveLeg':
    case 'installTunnel':
    case 'reportTunnel':
    case 'probeTunnel':
    case 'resizeTunnel':
    // Split up.
    case 'joinMeeting':
      return 'first'
    default:
      return { session: command.session }
  }
}
