// Two machines behind NATs, two terminals: they pair by a code, and then have a network. A session like ssh's and a transfer go
// over it, and go on when both routers have forgotten every mapping. Needs Linux, root, `ip`, `nft`, `sysctl`, `iperf3` and `turnserver`
// (coturn), which carries sealed packets while nothing straight is known.

import type { ChildProcess } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { addHome, type Home, PORT_RESTRICTED, reboot, SYMMETRIC } from '../home.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import type { Scenario } from '../scenario.ts'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))
const RELAY = fileURLToPath(new URL('../flow-relay.ts', import.meta.url))
const LINES = fileURLToPath(new URL('../lines.ts', import.meta.url))
const PROGRAMS = fileURLToPath(new URL('../two-programs.ts', import.meta.url))
const STUN = ['20.0.0.1', '20.0.0.2', '20.0.0.3'] as const
const MEETING = '20.0.0.8'
const TURN = '20.0.0.9'
const CREDENTIALS = { username: 'lab', password: 'lab' }
const LINES_PORT = 4_022
const IPERF_PORT = 5_201
const CLOSED_PORT = 5_202
const TRANSFER_SECONDS = 12
const REBOOT_AFTER_MS = 4_000
const DIRECT_MS = 30_000

interface Machine {
  readonly name: string
  readonly home: Home
  readonly stateDir: string
  readonly flags: readonly string[]
}

export const pair: Scenario = async ({ say, figure, promise }) => {
  const missing = missingForNamespaces('nft', 'sysctl', 'iperf3', 'turnserver')
  if (missing !== undefined)
    throw new Error(`this scenario needs ${missing} (Debian: iproute2 nftables procps iperf3 coturn)`)
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-pair-'))
  const machines: Machine[] = []
  await using lab = new Namespaces()
  try {
    const internet = await lab.switch('inet')
    for (const [i, address] of STUN.entries()) {
      const host = await lab.host(`s${i}`)
      await lab.plug(host, internet, `${address}/8`)
      await ready(host.start(process.execPath, [RELAY, address], { stdio: ['ignore', 'pipe', 'ignore'] }))
    }
    const meeting = await lab.host('meet')
    await lab.plug(meeting, internet, `${MEETING}/8`)
    await startMeeting(meeting, folder)
    await startTurn(lab, internet)
    for (const [i, nat] of [SYMMETRIC, PORT_RESTRICTED].entries()) {
      machines.push(setUp(folder, ['tower', 'laptop'][i] ?? '', await addHome(lab, internet, 1 + i, nat)))
    }
    const [tower, laptop] = machines as [Machine, Machine]
    say('  behind a symmetric NAT: tower; behind a port-restricted one: laptop')

    await checkWrongCode(tower, laptop, promise)
    const pairedMs = await pairThem(tower, laptop, promise)
    figure('pairedMs', pairedMs)

    const directMs = await untilDirect(laptop, 'tower')
    figure('directAfterPairingMs', directMs)
    promise('the tunnel goes straight from NAT to NAT', directMs >= 0)
    const echo = json(await hoplite(laptop, 'ping', 'tower', '--count', '3', '--json'))
    figure('pingMs', Number(Math.min(...(echo['rttMs'] as number[])).toFixed(1)))
    figure('pingPath', String(echo['path']))

    const book = json(await hoplite(laptop, 'devices', '--json'))
    const { own, devices } = book as { own: Addresses; devices: Addresses[] }
    const { ipv6 = '', ipv4 = '' } = devices[0] ?? {}
    await carry(tower, laptop, ipv6, ipv4, { say, figure, promise })

    const question = `const resolver = new (require('node:dns').promises.Resolver)()
      resolver.setServers(['[${own.ipv6}]:53'])
      resolver.resolve6('tower.hop').then(found => console.log(found[0]))`
    const answer = await laptop.home.host.run(process.execPath, '--input-type=commonjs', '-e', question)
    promise('the name tower.hop leads to it', answer.trim() === ipv6)

    const served = [PROGRAMS, 'serve', tower.stateDir]
    await ready(tower.home.host.start(process.execPath, served, { stdio: ['ignore', 'pipe', 'inherit'] }))
    const asked = json(await laptop.home.host.run(process.execPath, PROGRAMS, 'ask', laptop.stateDir, 'tower'))
    promise('two programs have a stream', asked['stream'] === 'a stream')
    promise('and datagrams', asked['datagram'] === 'a datagram')

    await hoplite(laptop, 'devices', 'remove', 'tower')
    await laptop.home.host.run('sleep', '1.5')
    const left = json(await hoplite(tower, 'devices', '--json')) as { devices: unknown[] }
    promise('a removed device is out, on both sides', left.devices.length === 0)
  } finally {
    for (const machine of machines) await hoplite(machine, 'down').catch(() => undefined)
    rmSync(folder, { recursive: true, force: true })
  }
}

type Promised = (text: string, held: boolean) => void

async function checkWrongCode(tower: Machine, laptop: Machine, promise: Promised): Promise<void> {
  const { code, ended } = await showCode(tower)
  const wrong = code
    .split('-')
    .with(3, code.endsWith('-zoo') ? 'zone' : 'zoo')
    .join('-')
  const said = await refusal(laptop, 'join', wrong, '--json')
  promise('a wrong code is refused in words', /code was wrong/.test(said))
  promise('and its guess is gone on both sides', /code was wrong/.test(await ended))
  promise('the right one is of no use any more', (await refusal(laptop, 'join', code, '--json')).includes('used'))
}

async function pairThem(tower: Machine, laptop: Machine, promise: Promised): Promise<number> {
  const { code, ended } = await showCode(tower)
  const began = performance.now()
  const joined = json(await hoplite(laptop, 'join', code, '--json'))
  const ms = Math.round(performance.now() - began)
  const shown = json((await ended).trim().split('\n').at(-1) ?? '')
  promise('both show the same four words', JSON.stringify(joined['words']) === JSON.stringify(shown['words']))
  return ms
}

/** A session like ssh's and a transfer, during which both routers lose every mapping. */
async function carry(
  tower: Machine,
  laptop: Machine,
  ipv6: string,
  ipv4: string,
  { say, figure, promise }: Pick<Parameters<Scenario>[0], 'say' | 'figure' | 'promise'>,
): Promise<void> {
  const { host } = tower.home
  await ready(
    host.start(process.execPath, [LINES, 'serve', String(LINES_PORT)], { stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  for (const port of [IPERF_PORT, CLOSED_PORT]) host.start('iperf3', ['-s', '-p', String(port)])
  await host.run('sleep', '0.5')
  const from = laptop.home.host
  const quick = JSON.parse(await from.run('iperf3', '-c', ipv4, '-p', String(IPERF_PORT), '-t', '4', '-J')) as Iperf
  figure('tcpMbitPerSecond', Math.round(quick.end.sum_received.bits_per_second / 1e6))
  const closed = await from.run('iperf3', '-c', ipv6, '-p', String(CLOSED_PORT), '--connect-timeout', '1500').then(
    () => 'open',
    (error: { stdout?: string; stderr?: string }) => `${error.stdout}${error.stderr}`,
  )
  promise('a port without a rule answers nothing', /timed out|timeout/i.test(closed))

  say(`  both routers forget every mapping during a transfer of ${TRANSFER_SECONDS} s`)
  const talk = from.run(process.execPath, LINES, 'talk', ipv6, String(LINES_PORT), String(TRANSFER_SECONDS))
  const transfer = from.run('iperf3', '-c', ipv6, '-p', String(IPERF_PORT), '-t', String(TRANSFER_SECONDS), '-J')
  await new Promise(resolve => setTimeout(resolve, REBOOT_AFTER_MS))
  await Promise.all([reboot(tower.home), reboot(laptop.home)])
  const lines = JSON.parse(await talk) as Record<'lines' | 'answered' | 'silentMs' | 'waySilentMs', number>
  const { intervals, end } = JSON.parse(await transfer) as Iperf
  figure('rebootWaySilentMs', lines.waySilentMs)
  figure('rebootSessionSilentMs', lines.silentMs)
  figure('rebootTransferMbitPerSecond', Math.round(end.sum_received.bits_per_second / 1e6))
  promise('the session goes on: every line is answered', lines.answered === lines.lines)
  promise('the way is found again within 3 s', lines.waySilentMs < 3_000)
  promise('the transfer goes on', (intervals.at(-1)?.sum.bits_per_second ?? 0) > 1e6)
}

interface Addresses {
  readonly ipv6: string
  readonly ipv4: string
}

interface Iperf {
  readonly intervals: readonly { readonly sum: { readonly bits_per_second: number } }[]
  readonly end: { readonly sum_received: { readonly bits_per_second: number } }
}

async function startMeeting(host: Host, folder: string): Promise<void> {
  const config = path.join(folder, 'meeting.toml')
  writeFileSync(config, `[meet]\nlisten = "${MEETING}:443"\nwork_bits = 8\n`)
  const flags = ['--config', config, '--state-dir', path.join(folder, 'meeting')]
  const child = host.start(process.execPath, [MAIN, 'rendezvous', ...flags], { stdio: ['ignore', 'ignore', 'pipe'] })
  await new Promise(resolve => child.stderr?.once('data', resolve))
}

async function startTurn(lab: Namespaces, internet: Host): Promise<void> {
  const host = await lab.host('turn')
  const link = await lab.plug(host, internet, `${TURN}/8`)
  // Coturn gives up an allocation whose packets have no way at all.
  await host.ip('route', 'add', 'default', 'dev', link)
  const account = ['--lt-cred-mech', '-u', `${CREDENTIALS.username}:${CREDENTIALS.password}`, '-r', 'lab']
  host.start('turnserver', ['-n', ...account, '-L', TURN, '-E', TURN, '--no-cli', '--no-tls', '--no-dtls'])
  await host.run('sleep', '1')
}

function setUp(folder: string, name: string, home: Home): Machine {
  writeFileSync(path.join(folder, 'turn.password'), `${CREDENTIALS.password}\n`)
  const config = path.join(folder, `${name}.toml`)
  const stun = STUN.map(address => `"${address}:3478"`).join(', ')
  writeFileSync(
    config,
    `[client]
proxy = "127.0.0.1:0"
[meet]
name = "${name}"
rendezvous = ["ws://${MEETING}:443"]
interval_ms = 250
work_bits = 8
udp_port = 41000
stun = [${stun}]
turn = [{ address = "${TURN}:3478", username = "${CREDENTIALS.username}", password_file = "${folder}/turn.password" }]
allow = [
  { device = "*", protocol = "tcp", from_port = ${IPERF_PORT}, to_port = ${IPERF_PORT} },
  { device = "*", protocol = "tcp", from_port = ${LINES_PORT}, to_port = ${LINES_PORT} },
  { device = "*", protocol = "udp", from_port = ${LINES_PORT}, to_port = ${LINES_PORT} },
]
`,
  )
  const stateDir = path.join(folder, name)
  return { name, home, stateDir, flags: ['--config', config, '--state-dir', stateDir] }
}

function hoplite({ home, flags }: Machine, ...words: string[]): Promise<string> {
  return home.host.run(process.execPath, '--no-warnings', MAIN, ...words, ...flags)
}

/** What a command that must fail says. */
function refusal(machine: Machine, ...words: string[]): Promise<string> {
  return hoplite(machine, ...words).then(
    () => 'it did not fail',
    (error: { stdout?: string }) => error.stdout ?? '',
  )
}

/** Runs `hoplite pair`; the code it shows, and all that it prints until it ends. */
async function showCode({ home, flags }: Machine): Promise<{ readonly code: string; readonly ended: Promise<string> }> {
  const words = ['--no-warnings', MAIN, 'pair', '--json', ...flags]
  const child = home.host.start(process.execPath, words, { stdio: ['ignore', 'pipe', 'inherit'] })
  const lines: string[] = []
  const first = new Promise<string>(resolve => {
    createInterface({ input: child.stdout as NodeJS.ReadableStream }).on('line', line => {
      lines.push(line)
      resolve(line)
    })
  })
  const ended = new Promise<string>(resolve => child.once('close', () => resolve(lines.join('\n'))))
  return { code: String(json(await first)['code']), ended }
}

/** How long until packets go straight; -1 when they do not. */
async function untilDirect(machine: Machine, device: string): Promise<number> {
  const began = performance.now()
  while (performance.now() - began < DIRECT_MS) {
    const text = await hoplite(machine, 'ping', device, '--count', '1', '--json').catch(
      (error: { stdout?: string }) => error.stdout ?? '{}',
    )
    const echo = JSON.parse(text || '{}') as { path?: string; received?: number }
    if (echo.path === 'direct' && (echo.received ?? 0) > 0) return Math.round(performance.now() - began)
  }
  return -1
}

function json(text: string): Record<string, unknown> {
  return JSON.parse(text) as Record<string, unknown>
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', () => reject(new Error('a program of the laboratory did not start')))
  })
}
