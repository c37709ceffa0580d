// Devices that no direct way leads between, and no TURN server: relays of Hoplite join their flows. One pair is behind symmetric
// NATs; of the other, one has no UDP at all.

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { addHome, BLOCKED, type HomeNat, PORT_RESTRICTED, reboot, SYMMETRIC } from '../nat/home.ts'
import type { Host, Namespaces } from '../netns.ts'
import type { Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'
import {
  hoplite,
  IPERF_PORT,
  json,
  LINES_PORT,
  MAIN,
  type Machine,
  pairThem,
  ready,
  setUp,
  untilPath,
} from './pair-machine.ts'

const LINES = fileURLToPath(new URL('../lines.ts', import.meta.url))
const BOOTSTRAP = '20.0.0.20'
const RELAYS = ['20.0.0.21', '20.0.0.22', '20.0.0.23'] as const
const TALK_SECONDS = 12
const REBOOT_AFTER_MS = 4_000

type Telling = Pick<Parameters<Scenario>[0], 'say' | 'figure' | 'promise'>

/** Runs both pairs, and adds their machines to `machines`, for whoever ends them. */
export async function checkRelayed(
  lab: Namespaces,
  internet: Host,
  folder: string,
  machines: Machine[],
  telling: Telling,
): Promise<void> {
  const network = await startRelays(lab, internet, folder)
  const pairs = [
    { title: 'symmetric', names: ['attic', 'cellar'], nats: [SYMMETRIC, SYMMETRIC] },
    { title: 'blocked', names: ['office', 'garden'], nats: [BLOCKED, PORT_RESTRICTED] },
  ] as const
  for (const { title, names, nats } of pairs) {
    const two: Machine[] = []
    for (const [i, nat] of (nats as readonly HomeNat[]).entries()) {
      const home = await addHome(lab, internet, 10 + machines.length + i, nat)
      two.push(setUp(folder, { name: names[i] ?? '', home, meet: [], more: network }))
    }
    machines.push(...two)
    await checkPair(title, two as [Machine, Machine], telling)
  }
}

async function checkPair(title: string, [one, other]: readonly [Machine, Machine], telling: Telling): Promise<void> {
  const { say, figure, promise } = telling
  say(`  no TURN server, ${title}: ${one.name} and ${other.name}`)
  await pairThem(one, other, promise)
  const { ms, rttMs } = await untilPath(other, one.name, 'relayed')
  figure(`${title}RelayedAfterPairingMs`, ms)
  figure(`${title}PingMs`, rttMs)
  promise('a relay joins the two', ms >= 0)
  const { devices } = json(await hoplite(other, 'devices', '--json')) as { devices: { ipv6: string }[] }
  const { ipv6 = '' } = devices[0] ?? {}
  const { host } = one.home
  host.start('iperf3', ['-s', '-p', String(IPERF_PORT)])
  await ready(
    host.start(process.execPath, [LINES, 'serve', String(LINES_PORT)], { stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  await host.run('sleep', '0.5')
  const from = other.home.host
  const transfer = JSON.parse(await from.run('iperf3', '-c', ipv6, '-p', String(IPERF_PORT), '-t', '3', '-J')) as {
    end: { sum_received: { bits_per_second: number } }
  }
  figure(`${title}TcpMbitPerSecond`, Math.round(transfer.end.sum_received.bits_per_second / 1e5) / 10)
  const talk = from.run(process.execPath, LINES, 'talk', ipv6, String(LINES_PORT), String(TALK_SECONDS))
  await new Promise(resolve => setTimeout(resolve, REBOOT_AFTER_MS))
  await Promise.all([reboot(one.home), reboot(other.home)])
  const lines = JSON.parse(await talk) as Record<'lines' | 'answered' | 'silentMs', number>
  figure(`${title}RebootSilentMs`, lines.silentMs)
  promise('the session goes on when both routers forget every mapping', lines.answered === lines.lines)
}

/** Three relays with doors for WebSocket, and the node that knows them; the lines of a client's configuration. */
async function startRelays(lab: Namespaces, internet: Host, folder: string): Promise<readonly string[]> {
  const start = async (name: string, address: string, command: string, lines: readonly string[]) => {
    const host = await lab.host(name)
    await lab.plug(host, internet, `${address}/8`)
    const config = path.join(folder, `${name}.toml`)
    writeFileSync(config, `${lines.join('\n')}\n`)
    const stateDir = path.join(folder, name)
    const words = ['--no-warnings', MAIN, command, '--config', config, '--state-dir', stateDir]
    host.start(process.execPath, words, { stdio: ['ignore', 'ignore', 'ignore'] })
    return waitFor(async (): Promise<Status | undefined> => {
      return callAction(socketPath(stateDir), 'status', {}).catch(() => undefined)
    }, name)
  }
  const boot = await start('boot', BOOTSTRAP, 'bootstrap', ['[relay]', `control_listen = "${BOOTSTRAP}:51820"`])
  const network = ['[network]', `bootstrap = ["${boot.listening['control']?.[0]}"]`]
  for (const [i, address] of RELAYS.entries()) {
    const listen = [`listen = "${address}:51821"`, `control_listen = "${address}:51820"`]
    const door = `websocket_listen = "${address}:443"`
    await start(`relay${i}`, address, 'relay', [...network, '[relay]', ...listen, door, `operator = "o${i}"`])
  }
  return network
}
