// A peer's process on loopback, between a WireGuard client and a WireGuard server of this process:
//
//   device ──UDP──► entry of our engine ══session══► hoplite peer ──UDP──► device

import { type ChildProcess, spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { PeerStatus } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { ControlLoop } from '#daemon/control-loop.ts'
import { monotonicMs } from '#platform/clock.ts'
import { startEngineOf } from '#platform/engine.ts'
import { siblingModule } from '#platform/module-url.ts'
import { socketPath } from '#platform/state/directories.ts'
import { readKeys } from '#platform/state/keys.ts'
import type { RouteHop } from '#route/way.ts'
import { type Address, formatAddress, parseAddress } from '#wire/address.ts'
import { COLD, waitFor } from '../testnet.ts'
import { makeEnd, type WireGuardEnd } from '../wireguard/wireguard-end.ts'
import { PeerFlow } from './peer-flow.ts'

/** What is to be undone when a test ends, in this order. */
interface Cleanup {
  after(undo: () => void | Promise<void>): void
}

/** Where the client, the peer and the server are. */
export const HOSTS = { client: '127.43.0.1', peer: '127.41.0.1', server: '127.42.0.1' } as const

export interface PeerProcess {
  readonly hop: RouteHop
  readonly process: ChildProcess
  status(): Promise<PeerStatus>
  /** Ends it without a warning, and starts it again. */
  crash(): Promise<PeerProcess>
}

/** Starts `hoplite peer` with the lines of its section; it may reach `server`. */
export async function startPeer(t: Cleanup, server: Address, lines: readonly string[] = []): Promise<PeerProcess> {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-peer-'))
  const listen = ['[relay]', `listen = "${HOSTS.peer}:0"`, `control_listen = "${HOSTS.peer}:0"`]
  const section = ['[peer]', `allow_private = ["${formatAddress(server)}"]`, ...lines]
  writeFileSync(path.join(directory, 'hoplite.toml'), [...listen, ...section, ...COLD, ''].join('\n'))
  const running: Ending[] = []
  t.after(async () => {
    for (const end of running) await end('SIGTERM')
    rmSync(directory, { recursive: true })
  })
  return runPeer(directory, running)
}

type Ending = (signal: NodeJS.Signals) => Promise<void>

async function runPeer(directory: string, running: Ending[]): Promise<PeerProcess> {
  const stateDir = path.join(directory, 'state')
  const main = fileURLToPath(siblingModule(import.meta.url, '../../cli/main'))
  const args = [
    '--no-warnings',
    main,
    'peer',
    '--config',
    path.join(directory, 'hoplite.toml'),
    '--state-dir',
    stateDir,
  ]
  const child = spawn(process.execPath, args, { stdio: 'ignore' })
  const exited = new Promise<void>(resolve => child.once('exit', () => resolve()))
  const end: Ending = async signal => {
    child.kill(signal)
    await exited
  }
  running.push(end)
  const ask = () => callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
  const first = await waitFor(ask, 'the peer')
  const address = parseAddress(first.listening['udp']?.[0] ?? '')
  const keys = readKeys(stateDir)
  if (address === undefined || keys === undefined) throw new Error('the peer has no address or no keys')
  return {
    process: child,
    hop: { id: 'peer', operator: 'peer', address, key: keys.hop.publicKey },
    status: () => waitFor(async () => (await ask())?.peer, 'what the peer lends'),
    crash: async () => {
      await end('SIGKILL')
      return runPeer(directory, running)
    },
  }
}

/** A WireGuard server on a socket of its own. */
export async function startServer(t: Cleanup): Promise<{ readonly end: WireGuardEnd; readonly socket: Socket }> {
  const socket = await bound(t, HOSTS.server)
  const end = makeEnd(2, (buffer, offset, length, to) =>
    socket.send(Uint8Array.from(buffer.subarray(offset, offset + length)), to.port, to.host),
  )
  socket.on('message', (bytes, { address, port }) => {
    end.device.receive(Buffer.from(bytes), 0, bytes.length, { host: address, port }, monotonicMs())
  })
  return { end, socket }
}

/** A client whose WireGuard reaches `server` through `peer`; resolves when the peer has answered. */
export async function startClient(t: Cleanup, peer: PeerProcess, server: Address) {
  const flow = new PeerFlow({
    peers: [peer.hop],
    server,
    client: { kind: 'socket', listen: { host: '127.0.0.1', port: 0 } },
    random: systemRandom,
  })
  let entry: Address | undefined
  const engine = startEngineOf('portable', {
    host: HOSTS.client,
    port: 0,
    maxStreamDatagram: 1_172,
    onReport: report => {
      if (report.kind === 'entryReady') entry = report.address
      loop.run(now => flow.handleReport(report, now))
    },
    onFailure: error => {
      throw error
    },
  })
  const loop = new ControlLoop(flow, () => engine.send(...flow.take()))
  t.after(async () => {
    loop.close()
    await engine.close()
  })
  loop.run(now => flow.begin(now))
  await waitFor(async () => (flow.isOpen === false ? flow : entry), 'an answer of the peer')
  const socket = await bound(t, '127.0.0.1')
  const to = entry ?? { host: '127.0.0.1', port: 9 }
  const end = makeEnd(1, (buffer, offset, length) =>
    socket.send(Uint8Array.from(buffer.subarray(offset, offset + length)), to.port, to.host),
  )
  socket.on('message', bytes => void end.device.receive(Buffer.from(bytes), 0, bytes.length, to, monotonicMs()))
  return { flow, end, socket, entry: to }
}

async function bound(t: Cleanup, host: string): Promise<Socket> {
  const socket = createSocket('udp4')
  t.after(() => void socket.close())
  await new Promise<void>(resolve => socket.bind(0, host, resolve))
  return socket
}
