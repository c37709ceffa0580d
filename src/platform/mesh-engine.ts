// The tunnels between one's devices as the control plane sees them: orders in, events out. They live in a worker of their own.

import { Worker } from 'node:worker_threads'
import type { MeshPeer, MeshStatus } from '#mesh/mesh.ts'
import type { TurnServer } from '#path/turn-client.ts'
import type { Address } from '#wire/address.ts'
import type { MeetingPort } from './meeting-port.ts'
import { siblingModule } from './module-url.ts'

export interface MeshSettings {
  readonly privateKey: Uint8Array
  readonly ipv6: string
  readonly ipv4: string | undefined
  /** The network that all devices' IPv6 addresses are of. */
  readonly network: string
  /** The UDP port; 0 for any. */
  readonly port: number
  readonly stunServers: readonly Address[]
  readonly turnServers: readonly TurnServer[]
  /** Whether the router at home is asked to open the port. */
  readonly mapsPorts: boolean
  /** The network interface: none, one to be made, of that name if it matters, or one that is there, set up by whoever opened it. */
  readonly tun:
    | { readonly kind: 'none' }
    | { readonly kind: 'make'; readonly name?: string }
    | { readonly kind: 'given'; readonly name: string; readonly fd: number }
  /** SO_MARK of the links' sockets, where it can be set. */
  readonly mark: number
}

/** A device to keep a tunnel to. */
export interface LinkPeer extends MeshPeer {
  readonly isControlling: boolean
}

export type MeshOrder =
  | { readonly kind: 'peers'; readonly privateKey: Uint8Array; readonly peers: readonly LinkPeer[] }
  /** What the other side says of itself; a later `epoch` counts before everything of an earlier one. */
  | { readonly kind: 'offer'; readonly peer: number; readonly epoch: number; readonly offer: Uint8Array }
  /** The other side has lost its state: it is told everything anew. */
  | { readonly kind: 'restart'; readonly peer: number }
  /** A relay joins a flow of ours to the peer's; it comes and goes by a port on loopback. */
  | { readonly kind: 'meeting'; readonly peer: number; readonly meeting: MeetingPort }
  | { readonly kind: 'endMeeting'; readonly peer: number }
  | { readonly kind: 'ping'; readonly peer: number; readonly request: number }
  | { readonly kind: 'status'; readonly request: number }

export interface LinkPath {
  readonly kind: 'direct' | 'relayed' | 'turn'
  readonly to: Address
}

export type MeshEvent =
  /** `problem` says why there is no interface. */
  | { readonly kind: 'ready'; readonly interface?: string; readonly problem?: string; readonly port: number }
  | { readonly kind: 'offer'; readonly peer: number; readonly offer: Uint8Array }
  /** What is sent goes to one of these hosts, or is about to. */
  | { readonly kind: 'hosts'; readonly hosts: readonly string[] }
  | { readonly kind: 'path'; readonly peer: number; readonly path: LinkPath | undefined }
  /** Whether there is a fresh secret with a peer; without one its tunnel stands still. */
  | { readonly kind: 'secret'; readonly peer: number; readonly isAgreed: boolean }
  | { readonly kind: 'pong'; readonly request: number; readonly rttMs: number | undefined }
  | {
      readonly kind: 'status'
      readonly request: number
      readonly peers: readonly MeshStatus[]
      /** Packets that were not let in. */
      readonly refused: number
    }

export interface MeshEngine {
  send(order: MeshOrder): void
  close(): Promise<void>
}

/** Starts the worker; `onFailure` when it died of a bug. */
export function startMesh(
  settings: MeshSettings,
  onEvent: (event: MeshEvent) => void,
  onFailure: (error: Error) => void,
): MeshEngine {
  const worker = new Worker(siblingModule(import.meta.url, './mesh-worker'), {
    workerData: settings,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 16 },
  })
  let isClosed = false
  worker.on('message', (event: MeshEvent) => {
    if (!isClosed) onEvent(event)
  })
  worker.on('error', error => {
    if (!isClosed) onFailure(error instanceof Error ? error : new Error(String(error)))
  })
  const exited = new Promise<void>(resolve => worker.once('exit', () => resolve()))
  return {
    send: order => {
      if (!isClosed) worker.postMessage(order)
    },
    close: async () => {
      if (!isClosed) worker.postMessage('close')
      isClosed = true
      await exited
    },
  }
}
