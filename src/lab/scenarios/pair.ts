// Two machines behind NATs, two terminals: they pair by a code, and then have a network. A session of ssh (or like it, where no
// sshd is) and a transfer go over it, and go on when both routers have forgotten every mapping. One offers the other its network
// and the internet. Then others, whom no straight way leads to, meet at relays. Needs Linux, root, `ip`, `nft`, `sysctl`, `iperf3`
// and `turnserver` (coturn), which carries sealed packets while nothing straight is known.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import {
  cpuSeconds,
  hoplite,
  IPERF_PORT,
  json,
  LINES_PORT,
  type Machine,
  MEETING,
  type Promised,
  pairThem,
  ready,
  refusal,
  SSH_PORT,
  setUp,
  showCode,
  startMeeting,
  untilPath,
} from '../devices/pair-machine.ts'
import { addNetworks, checkExit, checkLan, type OfferedNetworks } from '../devices/pair-networks.ts'
import { checkRelayed } from '../devices/pair-relayed.ts'
import { hasSsh, startSsh } from '../devices/ssh-server.ts'
import { addHome, PORT_RESTRICTED, reboot, SYMMETRIC } from '../nat/home.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import type { Scenario } from '../scenario.ts'

const RELAY = fileURLToPath(new URL('../nat/flow-relay.ts', import.meta.url))
const LINES = fileURLToPath(new URL('../lines.ts', import.meta.url))
const PROGRAMS = fileURLToPath(new URL('../devices/two-programs.ts', import.meta.url))
const STUN = ['20.0.0.1', '20.0.0.2', '20.0.0.3'] as const
const TURN = '20.0.0.9'
const CREDENTIALS = { username: 'lab', password: 'lab' }
const CLOSED_PORT = 5_202
const TRANSFER_SECONDS = 12
const REBOOT_AFTER_MS = 4_000

export const pair: Scenario = async ({ say, figure, promise }) => {
  const missing = missingForNamespaces('nft', 'sysctl', 'iperf3', 'turnserver')
  if (missing !== undefined)
    throw new Error(`this scenario needs ${missing} (Debian: iproute2 nftables procps iperf3 coturn)`)
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-pair-'))
  const machines: Machine[] = []
  let networks: OfferedNetworks | undefined
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
    writeFileSync(path.join(folder, 'turn.password'), `${CREDENTIALS.password}\n`)
    const turn = `{ address = "${TURN}:3478", username = "${CREDENTIALS.username}", password_file = "${folder}/turn.password" }`
    const meet = [`stun = [${STUN.map(address => `"${address}:3478"`).join(', ')}]`, `turn = [${turn}]`]
    for (const [i, nat] of [SYMMETRIC, PORT_RESTRICTED].entries()) {
      const home = await addHome(lab, internet, 1 + i, nat)
      machines.push(setUp(folder, { name: ['tower', 'laptop'][i] ?? '', home, meet }))
    }
    const [tower, laptop] = machines as [Machine, Machine]
    networks = await addNetworks(lab, internet, tower.home.host)
    say('  behind a symmetric NAT: tower; behind a port-restricted one: laptop')

    await checkWrongCode(tower, laptop, promise)
    const pairedMs = await pairThem(tower, laptop, promise)
    figure('pairedMs', pairedMs)

    const { ms: directMs } = await untilPath(laptop, 'tower', 'direct')
    figure('directAfterPairingMs', directMs)
    promise('the tunnel goes straight from NAT to NAT', directMs >= 0)
    const echo = json(await hoplite(laptop, 'ping', 'tower', '--count', '3', '--json'))
    figure('pingMs', Number(Math.min(...(echo['rttMs'] as number[])).toFixed(1)))
    figure('pingPath', String(echo['path']))

    const book = json(await hoplite(laptop, 'devices', '--json'))
    const { own, devices } = book as { own: Addresses; devices: Addresses[] }
    const { ipv6 = '', ipv4 = '' } = devices[0] ?? {}
    await carry(tower, laptop, ipv6, ipv4, folder, { say, figure, promise })

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

    say('  tower offers a network behind it, then the internet, to the whole of laptop')
    const lan = await checkLan(tower, laptop, networks, promise)
    figure('lanOfferedMs', lan.offeredMs)
    figure('lanReachedAfterAcceptingMs', lan.reachedMs)
    // tower has no IPv6 at home: it is refused inside.
    const exit = await checkExit(tower, laptop, { address: '20.0.1.1', isMeasured: true }, networks, promise)
    figure('ownExitUpMs', exit.upMs)
    figure('ownExitMbitPerSecond', exit.mbitPerSecond ?? -1)
    await untilPath(laptop, 'tower', 'direct')

    await hoplite(laptop, 'devices', 'remove', 'tower')
    await laptop.home.host.run('sleep', '1.5')
    const left = json(await hoplite(tower, 'devices', '--json')) as { devices: unknown[] }
    promise('a removed device is out, on both sides', left.devices.length === 0)

    await checkRelayed(lab, internet, folder, machines, { say, figure, promise })
  } finally {
    for (const machine of machines) await hoplite(machine, 'down').catch(() => undefined)
    networks?.close()
    rmSync(folder, { recursive: true, force: true })
  }
}

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

/** A session and a transfer, during which both routers lose every mapping. */
async function carry(
  tower: Machine,
  laptop: Machine,
  ipv6: string,
  ipv4: string,
  folder: string,
  { say, figure, promise }: Pick<Parameters<Scenario>[0], 'say' | 'figure' | 'promise'>,
): Promise<void> {
  const { host } = tower.home
  await ready(
    host.start(process.execPath, [LINES, 'serve', String(LINES_PORT)], { stdio: ['ignore', 'pipe', 'ignore'] }),
  )
  const reach = hasSsh() ? startSsh(host, SSH_PORT, folder) : undefined
  say(`  the session is ${reach === undefined ? 'a line echo over TCP: no sshd is installed' : 'of ssh'}`)
  figure('session', reach === undefined ? 'line echo' : 'ssh')
  for (const port of [IPERF_PORT, CLOSED_PORT]) host.start('iperf3', ['-s', '-p', String(port)])
  await host.run('sleep', '0.5')
  const from = laptop.home.host
  const pinged = await from.run('ping', '-q', '-c', '50', '-i', '0.02', ipv4)
  figure('echoMs', Number(/= [\d.]+\/([\d.]+)\//.exec(pinged)?.[1] ?? -1))
  const used = () => Promise.all([tower, laptop].map(cpuSeconds)).then(([one = 0, other = 0]) => one + other)
  const before = await used()
  const quick = JSON.parse(await from.run('iperf3', '-c', ipv4, '-p', String(IPERF_PORT), '-t', '4', '-J')) as Iperf
  const { bits_per_second: rate, bytes } = quick.end.sum_received
  figure('tcpMbitPerSecond', Math.round(rate / 1e6))
  figure('cpuSecondsPerGigabyte', Number((((await used()) - before) / (bytes / 1e9)).toFixed(2)))
  const closed = await from.run('iperf3', '-c', ipv6, '-p', String(CLOSED_PORT), '--connect-timeout', '1500').then(
    () => 'open',
    (error: { stdout?: string; stderr?: string }) => `${error.stdout}${error.stderr}`,
  )
  promise('a port without a rule answers nothing', /timed out|timeout/i.test(closed))

  say(`  both routers forget every mapping during a transfer of ${TRANSFER_SECONDS} s`)
  const command = reach?.(ipv6) ?? []
  const talk = from.run(process.execPath, LINES, 'talk', ipv6, String(LINES_PORT), String(TRANSFER_SECONDS), ...command)
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
  readonly end: { readonly sum_received: { readonly bits_per_second: number; readonly bytes: number } }
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
