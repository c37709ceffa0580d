// What is compared: a subject starts its own processes on the hosts of the laboratory and says how traffic goes through it.

import type { PeerLab } from './topology.ts'

export interface Subject {
  /** As in the table and after `--only`; lower case, hyphens. */
  readonly name: string
  /** What it is, in a few words for the table. */
  readonly title: string
  /** Machines of its own between client and origin; subjects with the same number are compared with each other. */
  readonly hops: number
  /** What is missing here to run it, or `undefined`. */
  missing(): string | undefined
  /** Name and version of the program, or '' where there is none. */
  version(): Promise<string>
  /** Starts everything; what the laboratory does not end by itself is deferred there. Traffic may need a while longer until it flows: the harness waits for that. */
  start(lab: PeerLab): Promise<RunningSubject>
}

/** How an application on the client reaches the origin: by its address, or through a SOCKS proxy on the client. */
export type Access =
  | { readonly kind: 'ip' }
  | {
      readonly kind: 'socks'
      readonly host: string
      readonly port: number
      /** Whether the proxy gives each user another way through the network. */
      readonly hasUsers: boolean
    }

export interface RunningSubject {
  readonly access: Access
  /** All processes of the subject that run now, and no others. */
  processes(): readonly SubjectProcess[]
  /** The client's part alone, stopped and started again with whatever it has kept on disk. */
  readonly client?: { stop(): Promise<void>; start(): Promise<void> }
  /** Kills, as SIGKILL does, a hop that traffic passes now: the middle one of three, the first of two. */
  killHop?(): Promise<void>
}

export interface SubjectProcess {
  readonly name: string
  readonly pid: number
}
