// The tunnels between one's devices as the control plane sees them: orders in, events out. They live in a worker of their own.

import { Worker } from 'node:worker_threads'
import type { MeshPeer, MeshStatus } from '#mesh/mesh.ts'
import type { TurnServer } from '#path/turn-client.ts'
import type { Address } from '#wire/address.ts'
import { type HelperChannel, helperFor } from './linux/helper-channel.ts'
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
  /** Whether a network interface is to be made. */
  readonly hasTun: boolean
  /** What an IPv4 address of a device is of, and the domain of the names. */
  readonly network4: string
  readonly zone: string
}

/** What the worker is given: the settings, and what became of the interface. */
export interface MeshWorkerData extends MeshSettings {
  readonly link: OpenedLink
}

type OpenedLink = { readonly name: string; readonly fd: number } | { readonly problem: string } | undefined

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

/** A socket for questions at our own address, and whether the system asks there. */
export interface MeshNames {
  /** `undefined` when it cannot be had. */
  readonly fd: number | undefined
  readonly isTold: boolean
}

export interface MeshEngine {
  send(order: MeshOrder): void
  /** Opens the place for names, where there is an interface. */
  openNames(): Promise<MeshNames>
  close(): Promise<void>
}

/** Starts the worker; `onFailure` when it died of a bug. The interface is made first, by whoever has the right. */
export function startMesh(
  settings: MeshSettings,
  onEvent: (event: MeshEvent) => void,
  onFailure: (error: Error) => void,
): MeshEngine {
  const helper = settings.hasTun ? meshHelper(settings) : undefined
  let waiting: MeshOrder[] | undefined = []
  let isClosed = false
  let worker: Worker | undefined
  const exited = openLink(settings, helper).then(link => {
    if (isClosed) return
    const started = startWorker({ ...settings, link })
    worker = started
    started.on('message', (event: MeshEvent | MeshRoutes) => {
      if (event.kind === 'routes') helper?.ask({ verb: 'meshRoutes', ipv4: event.ipv4 }).catch(() => undefined)
      else if (!isClosed) onEvent(event)
    })
    started.on('error', error => {
      if (!isClosed) onFailure(error instanceof Error ? error : new Error(String(error)))
    })
    for (const order of waiting ?? []) started.postMessage(order)
    waiting = undefined
    return new Promise<void>(resolve => started.once('exit', () => resolve()))
  })
  return {
    send: order => {
      if (waiting !== undefined) waiting.push(order)
      else if (!isClosed) worker?.postMessage(order)
    },
    openNames: async () => {
      const { answer, fds } = (await helper?.ask({ verb: 'meshNames' })) ?? { answer: {}, fds: [] }
      return { fd: fds[0], isTold: answer.isTold ?? false }
    },
    close: async () => {
      if (!isClosed) worker?.postMessage('close')
      isClosed = true
      await exited
    },
  }
}

/** IPv4 addresses that lead into the interface from now on. */
export interface MeshRoutes {
  readonly kind: 'routes'
  readonly ipv4: readonly string[]
}

function startWorker(workerData: MeshWorkerData): Worker {
  return new Worker(siblingModule(import.meta.url, './mesh-worker'), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 16 },
  })
}

function meshHelper({ network, network4, zone }: MeshSettings): HelperChannel {
  return helperFor(() => ({
    mesh: { network, ipv4: network4, zone },
    journal: '',
    uid: process.getuid?.() ?? 0,
    hooks: [],
  }))
}

async function openLink({ ipv6, ipv4 }: MeshSettings, helper: HelperChannel | undefined): Promise<OpenedLink> {
  if (helper === undefined) return undefined
  try {
    const { answer, fds } = await helper.ask({ verb: 'openMesh', ipv6, ipv4: ipv4 ?? null })
    return { name: answer.mesh ?? '', fd: fds[0] ?? -1 }
  } catch (error) {
    return { problem: (error as Error).message }
  }
}
