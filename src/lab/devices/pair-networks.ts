// What paired devices offer each other: a disk behind one of them, which the other reaches, and the internet, which the other's whole
// machine goes to. A scenario prints it, a test demands it.

import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Output } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { isStateLocked } from '#platform/state/state-lock.ts'
import { processStatus } from '../machine/machine-network.ts'
import type { Host, Namespaces } from '../netns.ts'
import { waitFor } from '../testnet.ts'
import { hoplite, IPERF_PORT, json, type Machine, type Promised, refusal, untilPath } from './pair-machine.ts'

const NAMES = fileURLToPath(new URL('./name-process.ts', import.meta.url))
export const LAN = '192.168.77.0/24'
const DISK = '192.168.77.5'
const TOWER_INSIDE = '192.168.77.1'
/** Another network of the offering side, which is not offered. */
const OTHER = '192.168.78.5'
const WEB = '20.0.0.30'
const WEB_6 = '2a03:50::1'
const WEB_PORT = 8_080

export interface OfferedNetworks {
  readonly disk: Host
  readonly other: Host
  readonly web: Host
  close(): void
}

/** Adds what lies behind the offering side, and a place on the internet with a resolver that the offering side asks. */
export async function addNetworks(lab: Namespaces, internet: Host, tower: Host): Promise<OfferedNetworks> {
  const disk = await lab.host('disk')
  await lab.cable(tower, `${TOWER_INSIDE}/24`, disk, `${DISK}/24`)
  const other = await lab.host('other')
  await lab.cable(tower, '192.168.78.1/24', other, `${OTHER}/24`)
  const web = await lab.host('web')
  const link = await lab.plug(web, internet, `${WEB}/8`)
  await web.ip('address', 'add', `${WEB_6}/128`, 'dev', link, 'nodad')
  await web.ip('-6', 'route', 'add', 'default', 'dev', link)
  web.start(process.execPath, ['--no-warnings', NAMES, WEB, WEB, WEB_6])
  web.start(process.execPath, ['--eval', SERVE, String(WEB_PORT)])
  // Commands on that host have their own resolv.conf (ip-netns(8)).
  const folder = `/etc/netns/${tower.namespace}`
  mkdirSync(folder, { recursive: true })
  writeFileSync(`${folder}/resolv.conf`, `nameserver ${WEB}\n`)
  return { disk, other, web, close: () => rmSync(folder, { recursive: true, force: true }) }
}

/** Says to whoever comes where they come from. */
const SERVE = `require('node:http')
  .createServer((request, response) => response.end(request.socket.remoteAddress.replace('::ffff:', '')))
  .listen(Number(process.argv[1]), '::')`

/** The disk behind `tower`, from `laptop`: offered, accepted, reached, withdrawn; what was not offered never. */
export async function checkLan(
  tower: Machine,
  laptop: Machine,
  { disk }: OfferedNetworks,
  promise: Promised,
): Promise<{ readonly offeredMs: number; readonly reachedMs: number }> {
  const [towerHost, from] = [tower.home.host, laptop.home.host]
  const untouched = await picture(towerHost)
  const began = performance.now()
  await hoplite(tower, 'devices', 'offer', LAN)
  await untilOffered(laptop, LAN)
  const offeredMs = Math.round(performance.now() - began)
  promise('an offer changes nothing on the other side until it is accepted', !(await reaches(from, DISK)))
  const unknown = await refusal(laptop, 'devices', 'accept', 'tower', '192.168.0.0/16', '--json')
  promise('what was not offered cannot be accepted', /REQUEST_INVALID/.test(unknown))
  const accepted = performance.now()
  await hoplite(laptop, 'devices', 'accept', 'tower', LAN)
  await waitFor(async () => ((await reaches(from, DISK)) ? true : undefined), 'the disk behind tower')
  const reachedMs = Math.round(performance.now() - accepted)
  promise(
    'a host behind the other device is reached, and sees that device',
    (await seenBy(disk, from)) === TOWER_INSIDE,
  )
  promise('the offering device itself is not reached by its address there', !(await reaches(from, TOWER_INSIDE)))
  await from.ip('route', 'add', '192.168.78.0/24', 'dev', await linkOf(laptop))
  promise('nor is another network behind it, whatever routes say', !(await reaches(from, OTHER)))
  await from.ip('route', 'del', '192.168.78.0/24')

  await hoplite(tower, 'devices', 'withdraw', LAN)
  await waitFor(async () => ((await reaches(from, DISK)) ? undefined : true), 'the end of the offer')
  await waitFor(async () => ((await picture(towerHost)) === untouched ? true : undefined), 'a machine as before')
  promise('an offer that is withdrawn ends, and the machine is as it was', true)
  await hoplite(tower, 'devices', 'offer', LAN, '--to', 'laptop')
  await waitFor(async () => ((await reaches(from, DISK)) ? true : undefined), 'the disk again')
  promise('what was accepted counts again when it is offered again', true)
  return { offeredMs, reachedMs }
}

/** Both daemons die: nothing for the disk goes astray, and recover puts both machines back. */
export async function checkCrash(
  tower: Machine,
  laptop: Machine,
  pictures: readonly [string, string],
  promise: Promised,
): Promise<void> {
  const from = laptop.home.host
  for (const machine of [tower, laptop]) await kill(machine)
  const isUnreachable = async () => {
    const way = await from.ip('route', 'get', DISK).catch((error: { stderr?: string }) => String(error.stderr))
    return /unreachable|no route/i.test(way) ? true : undefined
  }
  // The interface goes with the last thread of the process.
  await waitFor(isUnreachable, 'the end of the way')
  promise('what is for the network at home goes nowhere else when the way is gone', true)
  for (const machine of [tower, laptop]) await hoplite(machine, 'recover')
  const after = [await picture(tower.home.host), await picture(from)]
  promise('recover puts both machines back exactly', after[0] === pictures[0] && after[1] === pictures[1])
}

/** As the internet sees it. */
export interface SeenExit {
  readonly address: string
  readonly address6?: string
  /** Whether a transfer is measured. */
  readonly isMeasured: boolean
}

/** The whole machine `laptop` goes through `tower`, and stays shut when it is gone. */
export async function checkExit(
  tower: Machine,
  laptop: Machine,
  { address, address6, isMeasured }: SeenExit,
  { web }: OfferedNetworks,
  promise: Promised,
): Promise<{ readonly upMs: number; readonly mbitPerSecond: number | undefined }> {
  const from = laptop.home.host
  await hoplite(laptop, 'down').catch(() => undefined)
  const before = await picture(from)
  const refused = await refusal(laptop, 'up', '--tun', '--via', 'tower', '--json')
  promise('who does not offer the internet is not gone through', /does not offer the internet/.test(refused))
  await hoplite(tower, 'devices', 'offer', 'internet')
  await hoplite(laptop, 'devices')
  await untilOffered(laptop, 'internet')
  await untilPath(laptop, 'tower', 'direct')
  await hoplite(laptop, 'down')

  const began = performance.now()
  const up = json(await hoplite(laptop, 'up', '--tun', '--via', 'tower', '--json'))
  const upMs = Math.round(performance.now() - began)
  const { Uid = '', CapEff, CapBnd } = processStatus(Number(up['pid']))
  const isNobody = !Uid.startsWith('0') && Number(CapEff) === 0 && Number(CapBnd) === 0
  promise('and the process that does this is nobody, without a right', isNobody)
  promise('status says through whom', up['via'] === 'tower' && up['state'] === 'ready')
  promise('the internet sees the exit', (await fetchFrom(laptop, `http://${WEB}:${WEB_PORT}/`)) === address)
  promise('names are asked through it', (await fetchFrom(laptop, `http://origin.test:${WEB_PORT}/`, 4)) === address)
  const six = await fetchFrom(laptop, `http://[${WEB_6}]:${WEB_PORT}/`).catch(() => 'refused')
  if (address6 === undefined)
    promise('IPv6, which it has not, is refused at once, and does not leave beside', six === 'refused')
  else promise('IPv6 too', six === address6)
  let mbitPerSecond: number | undefined
  if (isMeasured) {
    web.start('iperf3', ['-s', '-p', String(IPERF_PORT)])
    await web.run('sleep', '0.5')
    const text = await from.run('iperf3', '-c', WEB, '-p', String(IPERF_PORT), '-t', '4', '-R', '-J')
    const { end } = JSON.parse(text) as { end: { sum_received: { bits_per_second: number } } }
    mbitPerSecond = Math.round(end.sum_received.bits_per_second / 1e6)
  }

  await hoplite(tower, 'down')
  promise('when the exit is gone nothing leaves', !(await reaches(from, WEB)))
  await hoplite(tower, 'devices')
  await waitFor(async () => ((await reaches(from, WEB)) ? true : undefined), 'the exit again', 60_000)
  await kill(laptop)
  promise('after a crash nothing leaves', !(await reaches(from, WEB)))
  await hoplite(laptop, 'recover')
  promise('recover puts the machine back exactly', (await picture(from)) === before)
  return { upMs, mbitPerSecond }
}

/** What of a machine all this changes: rules, routes, firewall, interfaces, switches. */
export async function picture(host: Host): Promise<string> {
  const parts = await Promise.all([
    host.run('nft', 'list', 'ruleset'),
    ...['-4', '-6'].flatMap(family => [host.ip(family, 'rule'), host.ip(family, 'route', 'show', 'table', 'all')]),
    host.run('sysctl', '-a', '--pattern', '^net.ipv[46].conf.(all|eth[0-9]).(forwarding|accept_ra|src_valid_mark)$'),
  ])
  const lines = parts.join('\n').split('\n')
  // The devices' own interface comes and goes with the daemon, and link-local addresses take their time.
  return lines.filter(line => !/hoplite[0-9]|fe80::|multicast ff00/.test(line)).join('\n')
}

export async function reaches(from: Host, address: string): Promise<boolean> {
  return from.run('ping', '-c', '1', '-W', '1', address).then(
    () => true,
    () => false,
  )
}

async function untilOffered(machine: Machine, network: string): Promise<void> {
  await waitFor(async () => {
    const { devices } = await book(machine)
    return devices.some(({ offered }) => offered.some(offer => offer.network === network)) ? true : undefined
  }, `an offer of ${network}`)
}

function book({ stateDir }: Machine): Promise<Output<'devices'>> {
  return callAction(socketPath(stateDir), 'devices', {})
}

async function linkOf(machine: Machine): Promise<string> {
  return (await book(machine)).interface ?? ''
}

/** The address from which a connection of `from` comes to a host. */
async function seenBy(disk: Host, from: Host): Promise<string> {
  disk.start(process.execPath, ['--eval', SERVE, String(WEB_PORT)])
  const ask = `fetch('http://${DISK}:${WEB_PORT}/').then(async r => console.log(await r.text()))`
  return waitFor(async () => {
    const text = await from.run(process.execPath, '--eval', ask).catch(() => '')
    return text.trim() || undefined
  }, 'the disk')
}

/** Fetches a page where the daemon's helper is, with the name resolution that it has set. */
async function fetchFrom({ home, stateDir }: Machine, url: string, family = 0): Promise<string> {
  const { pid, helper = pid } = await callAction(socketPath(stateDir), 'status', {})
  const ask = `require('node:dns').setDefaultResultOrder('ipv${family === 6 ? 6 : 4}first')
    fetch('${url}', { signal: AbortSignal.timeout(8000) }).then(async r => console.log(await r.text()))
      .catch(error => process.exit(console.log(String(error.cause ?? error)) ?? 1))`
  const inside = ['--mount=/proc/' + helper + '/ns/mnt', '--', process.execPath, '--input-type=commonjs', '--eval', ask]
  return (await home.host.run('nsenter', ...inside)).trim()
}

async function kill(machine: Machine): Promise<void> {
  const { pid } = await callAction(socketPath(machine.stateDir), 'status', {})
  process.kill(pid, 'SIGKILL')
  await waitFor(async () => (isStateLocked(machine.stateDir) ? undefined : true), 'the end of the daemon')
}
