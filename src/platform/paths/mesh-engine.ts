// The tunnels between one's devices as the control plane sees them: orders in, events out. They live in a worker of their own.

import { Worker } from 'node:worker_threads'
import type { TunOffload } from '#forward/commands.ts'
import type { MeshPeer } from '#mesh/mesh.ts'
import type { TurnServer } from '#path/turn-client.ts'
import type { Address } from '#wire/address.ts'
import type { EngineKind } from '../engine.ts'
import { type HelperChannel, helperFor, helperProcess } from '../linux/helper/helper-channel.ts'
import type { MeetingPort } from '../meeting-port.ts'
import { siblingModule } from '../module-url.ts'
import type { MeshPlaneReport } from './mesh-plane-orders.ts'
import type { MeshTun } from './mesh-plane-worker.ts'

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
  /** What an IPv4 address of a device is of, and the domain of the names. */
  readonly network4: string
  readonly zone: string
  /** The network interface: none, one to be made, of that name if it matters, or one that is there, set up by whoever opened it. */
  readonly tun:
    | { readonly kind: 'none' }
    | { readonly kind: 'make'; readonly name?: string }
    | { readonly kind: 'given'; readonly name: string; readonly fd: number; readonly offload: TunOffload }
  /** SO_MARK of the links' sockets, where it can be set. */
  readonly mark: number
  /** What carries packets: `auto` is linux where that can be. An interface takes linux in any case. */
  readonly engine: 'auto' | EngineKind
}

/** What the worker is given: the settings, and what became of the interface. */
export interface MeshWorkerData extends MeshSettings {
  readonly link: OpenedLink
  /** Whether sockets are asked for: this process may not mark its own. */
  readonly asksForSockets: boolean
}

type OpenedLink = ({ readonly name: string } & MeshTun) | { readonly problem: string } | undefined

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
  /** A socket that was asked for; negative where there is none to be had. */
  | { readonly kind: 'socket'; readonly request: number; readonly fd: number }

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
  /** Of the tunnels themselves; without a fresh secret with a peer its tunnel stands still. */
  | Extract<MeshPlaneReport, { kind: 'secret' | 'pong' | 'status' }>

/** Sockets for questions at our own addresses, and whether the system asks there. */
export interface MeshNames {
  /** None when they cannot be had. */
  readonly places: readonly NamesPlace[]
  readonly isTold: boolean
}

/** One address of ours: its descriptors for datagrams and for connections. */
export interface NamesPlace {
  readonly udp: number
  readonly tcp: number
  readonly isIpv6: boolean
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
  const helper = settings.tun.kind === 'make' ? meshHelper(settings) : undefined
  const marker = settings.mark === 0 ? undefined : helperProcess()
  let waiting: MeshOrder[] | undefined = []
  let isClosed = false
  let worker: Worker | undefined
  const exited = openLink(settings, helper).then(link => {
    if (isClosed) return
    const started = startWorker({ ...settings, link, asksForSockets: marker !== undefined })
    worker = started
    started.on('message', (event: MeshEvent | MeshWish) => {
      if (event.kind === 'routes') helper?.ask({ verb: 'meshRoutes', ipv4: event.ipv4 }).catch(() => undefined)
      else if (event.kind === 'socket') void openSocket(marker, event).then(order => started.postMessage(order))
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
      const { tun } = settings
      const asked = tun.kind === 'given' ? helperProcess() : helper
      if (tun.kind === 'given' && asked === undefined) return openGivenNames(tun.name, settings)
      const { answer, fds } = (await asked?.ask({ verb: 'meshNames' })) ?? { answer: {}, fds: [] }
      return { places: placesOf(fds), isTold: answer.isTold ?? false }
    },
    close: async () => {
      if (!isClosed) worker?.postMessage('close')
      isClosed = true
      await exited
    },
  }
}

/** What the worker wants done by whoever has the right. */
export type MeshWish =
  /** IPv4 addresses lead into the interface from now on. */
  | { readonly kind: 'routes'; readonly ipv4: readonly string[] }
  /** A marked socket at a port; 0 is any. */
  | { readonly kind: 'socket'; readonly request: number; readonly family: 4 | 6; readonly port: number }

function startWorker(workerData: MeshWorkerData): Worker {
  return new Worker(siblingModule(import.meta.url, './mesh-worker'), {
    workerData,
    resourceLimits: { maxOldGenerationSizeMb: 192, maxYoungGenerationSizeMb: 16 },
  })
}

function meshHelper({ network, network4, zone, tun }: MeshSettings): HelperChannel {
  const name = tun.kind === 'make' && tun.name !== undefined ? { interface: tun.name } : {}
  return helperFor(() => ({
    mesh: { network, ipv4: network4, zone, denied: [], ...name },
    journal: '',
    uid: process.getuid?.() ?? 0,
    hooks: [],
  }))
}

async function openLink({ ipv6, ipv4, tun }: MeshSettings, helper: HelperChannel | undefined): Promise<OpenedLink> {
  if (tun.kind === 'given') return { ...tun, stays: true }
  if (helper === undefined) return undefined
  try {
    const { answer, fds } = await helper.ask({ verb: 'openMesh', ipv6, ipv4: ipv4 ?? null })
    const { name = '', offload = 'none' } = answer.mesh ?? {}
    return { name, offload, fd: fds[0] ?? -1, stays: false }
  } catch (error) {
    return { problem: (error as Error).message }
  }
}

/** For an interface that is this process's own, which then has the right to these too. */
async function openGivenNames(name: string, { ipv6, ipv4, zone }: MeshSettings): Promise<MeshNames> {
  const { openMeshNames } = await import('../linux/network/mesh-link.ts')
  const { fds, isTold } = await openMeshNames(name, ipv4 === undefined ? [ipv6] : [ipv6, ipv4], zone)
  return { places: placesOf(fds), isTold }
}

/** Two descriptors for each address: first those of IPv6. */
function placesOf(fds: readonly number[]): NamesPlace[] {
  return Array.from({ length: fds.length >> 1 }, (_, i) => {
    return { udp: fds[2 * i] ?? -1, tcp: fds[2 * i + 1] ?? -1, isIpv6: i === 0 }
  })
}

async function openSocket(
  helper: HelperChannel | undefined,
  { request, family, port }: Extract<MeshWish, { kind: 'socket' }>,
): Promise<MeshOrder> {
  const given = await helper?.ask({ verb: 'linkSocket', family, port }).catch(() => undefined)
  return { kind: 'socket', request, fd: given?.fds[0] ?? -1 }
}
