// wireguard-go: one tunnel, or one inside another, each to the next machine; the last one lets traffic out to the origin.
//
//   client ═ layer 1 ═► hop1
//      ╚═════ layer 2 ═══════► hop2                each layer is a TUN and a process on the client and on its hop
//      ╚═════ layer 3 ═════════════► hop3 ─► origin
//
// It is set up over its own control socket, whose name is that of the interface and is the same in all namespaces.

import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createConnection } from 'node:net'
import { promisify } from 'node:util'
import { generateX25519 } from '#crypto/x25519.ts'
import type { Host } from '../../netns.ts'
import { hasTool } from '../../skip.ts'
import { waitFor } from '../../testnet.ts'
import type { LabProcess } from '../lab-process.ts'
import { ORIGIN_ADDRESS } from '../origin-address.ts'
import type { RunningSubject, Subject } from '../subject.ts'
import { hopAddress, type PeerLab } from '../topology.ts'

const PORT = 51_820
/** What a layer takes of the MTU over IPv4, as wg-quick reckons it: 1,420 for the first, 1,340 for the one inside, and so on. */
const LAYER_BYTES = 80
const FULL_MTU = 1_500
const START_MS = 5_000
const execute = promisify(execFile)

/** Where a current wireguard-go is; distributions still have one from before offloads. */
export const CURRENT_VARIABLE = 'HOPLITE_WIREGUARD_GO'
const current = () => process.env[CURRENT_VARIABLE] ?? ''

/** The one that the distribution has. */
export const packaged: Subject = {
  name: 'wireguard-go-packaged',
  title: 'wireguard-go, the system’s',
  hops: 1,
  missing: () => (hasTool('wireguard-go') ? undefined : 'no wireguard-go in PATH'),
  version: () => versionOf('wireguard-go'),
  start: lab => nest(lab, 'wireguard-go', 1),
}

/** A current one, `layers` times inside itself. */
export function nested(layers: number): Subject {
  return {
    name: layers === 1 ? 'wireguard-go' : `wireguard-go-${layers}`,
    title: layers === 1 ? 'wireguard-go, current' : `wireguard-go, current, ${layers} nested`,
    hops: layers,
    missing: () => (existsSync(current()) ? undefined : `${CURRENT_VARIABLE} names no program`),
    version: () => versionOf(current()),
    start: lab => nest(lab, current(), layers),
  }
}

interface Layer {
  readonly number: number
  readonly client: Side
  readonly hop: Side
}

interface Side {
  readonly host: Host
  readonly interfaceName: string
  readonly address: string
  /** The address at the other end. */
  readonly peer: string
  readonly keys: { readonly publicKey: string; readonly privateKey: string }
}

async function nest(lab: PeerLab, program: string, count: number): Promise<RunningSubject> {
  const layers = Array.from({ length: count }, (_, i) => layerOf(lab, i + 1))
  const clients: LabProcess[] = []
  const hops: LabProcess[] = []
  for (const layer of layers) {
    hops.push(await bringUp(lab, program, layer.hop, mtuOf(layer), settingsOfHop(layer)))
    await lab.routeBack(`${layer.client.address}/32`, layer.number)
  }
  const start = async () => {
    for (const layer of layers) {
      const isLast = layer.number === count
      const inside = isLast ? ORIGIN_ADDRESS : hopAddress(layer.number + 1)
      clients.push(await bringUp(lab, program, layer.client, mtuOf(layer), settingsOfClient(layer)))
      await layer.client.host.ip('route', 'add', inside, 'dev', layer.client.interfaceName)
    }
  }
  const stop = async () => {
    for (const client of clients.splice(0)) await client.kill()
  }
  await start()
  // The first of two, the middle one of three.
  const killed = hops[Math.ceil(count / 2) - 1]
  return {
    access: { kind: 'ip' },
    processes: () => [...clients, ...hops].filter(({ isRunning }) => isRunning),
    client: { start, stop },
    ...(count > 1 && { killHop: async () => killed?.kill() }),
  }
}

function layerOf(lab: PeerLab, number: number): Layer {
  const ends = [`10.61.${number}.2`, `10.61.${number}.1`] as const
  const side = (host: Host, letter: string, address: string, peer: string): Side => {
    const { publicKey, privateKey } = generateX25519()
    const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
    const keys = { publicKey: hex(publicKey), privateKey: hex(privateKey) }
    return { host, interfaceName: `hp${process.pid.toString(36)}${letter}${number}`, address, peer, keys }
  }
  return {
    number,
    client: side(lab.client, 'c', ends[0], ends[1]),
    hop: side(lab.hop(number), 'h', ends[1], ends[0]),
  }
}

function mtuOf({ number }: Layer): number {
  return FULL_MTU - number * LAYER_BYTES
}

function settingsOfHop({ hop, client }: Layer): readonly string[] {
  const own = [`private_key=${hop.keys.privateKey}`, `listen_port=${PORT}`]
  return [...own, `public_key=${client.keys.publicKey}`, `allowed_ip=${client.address}/32`]
}

function settingsOfClient({ hop, client, number }: Layer): readonly string[] {
  const peer = [`public_key=${hop.keys.publicKey}`, `endpoint=${hopAddress(number)}:${PORT}`, 'allowed_ip=0.0.0.0/0']
  return [`private_key=${client.keys.privateKey}`, ...peer]
}

async function bringUp(
  lab: PeerLab,
  program: string,
  side: Side,
  mtu: number,
  settings: readonly string[],
): Promise<LabProcess> {
  const { host, interfaceName, address, peer } = side
  const started = lab.start(host, `${host.name}-${interfaceName}`, program, ['--foreground', interfaceName])
  await configure(started, interfaceName, settings)
  await host.ip('address', 'add', address, 'peer', peer, 'dev', interfaceName)
  await host.ip('link', 'set', interfaceName, 'mtu', String(mtu), 'up')
  return started
}

/** Sends a `set` to the control socket as soon as it takes one. */
async function configure(started: LabProcess, interfaceName: string, settings: readonly string[]): Promise<void> {
  const socket = `/var/run/wireguard/${interfaceName}.sock`
  const request = ['set=1', ...settings, '', ''].join('\n')
  const answer = await waitFor(
    async () => {
      if (!started.isRunning) throw new Error(`start wireguard-go: ${started.said()}`)
      return ask(socket, request).catch(() => undefined)
    },
    'wireguard-go’s control socket',
    START_MS,
  )
  if (!answer.includes('errno=0')) throw new Error(`set up wireguard-go: ${answer.trim()}`)
}

function ask(socket: string, request: string): Promise<string> {
  return new Promise((resolve, reject) => {
    const connection = createConnection(socket, () => connection.write(request))
    connection.setEncoding('utf8').on('error', reject)
    connection.on('data', answer => {
      connection.destroy()
      resolve(String(answer))
    })
  })
}

async function versionOf(program: string): Promise<string> {
  const { stdout } = await execute(program, ['--version'])
  return `wireguard-go ${/v([\d.]+)/.exec(stdout)?.[1] ?? ''}`
}
