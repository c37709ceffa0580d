// A whole machine through three hops: what comes through the TUN, what the origin sees, how long a lost hop stalls a
// connection, and what it costs beside the bare path.

import { MachineNetwork, type RelayName } from '../machine/machine-network.ts'
import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'

const MIB = 2 ** 20
const STALL_MS = 2_000
const NAME = 'origin.test'

export const tunnel: Scenario = async bench => {
  const { say, figure, promise } = bench
  const size = (bench.size ?? 256) * MIB
  await using network = await MachineNetwork.start({ relays: 4, hops: 3, measures: true })
  say('  the network stands: bootstrap node, four relays, two exits, router, origin')
  for (const address of [network.address('web'), network.address6('web')]) {
    network.host('web').start('iperf3', ['-s', '-B', address])
  }
  const bare = await measure(network)
  record(bench, 'bare', bare)

  const startedMs = performance.now()
  await network.up()
  figure('upMs', Math.round(performance.now() - startedMs))
  await network.ready()
  figure('mtu', (await network.status()).mtu ?? 0)
  await carries(bench, network, size)
  const through = await measure(network)
  record(bench, 'tunnel', through)
  figure('throughputOfBare', ratio(through.mbitDown, bare.mbitDown))
  figure('addedRttUs', Math.round((through.rttMs - bare.rttMs) * 1_000))

  for (const [place, role] of [
    [0, 'guard'],
    [1, 'middle'],
  ] as const) {
    const stalled = await loseHop(network, place, size)
    promise(`a TCP connection survives the SIGKILL of its ${role}, and its hash is right`, stalled.isRight)
    figure(`${role}StallMs`, stalled.ms)
    promise(`it stalls for less than ${STALL_MS} ms`, stalled.ms < STALL_MS)
  }
  await loseExit(bench, network, size)
  // The exit that was lost is left alone for 20 s, and there are but two.
  await new Promise(resolve => setTimeout(resolve, 21_000))
  await loseExit(bench, network, size, 0)

  const before = await picture(network)
  await network.hoplite('me', 'down')
  promise('down puts the machine back', !(await picture(network)).includes('hoplite0'))
  promise('which it was not before', before.includes('hoplite0'))
  promise('and the origin is reached directly', await reaches(network, network.address('web')))
}

async function carries({ figure, promise }: Bench, network: MachineNetwork, size: number): Promise<void> {
  for (const [family, address] of [
    [4, network.address('web')],
    [6, network.address6('web')],
  ] as const) {
    const whole = await network.download(size, address).done
    promise(`the hash of ${size / MIB} MiB by IPv${family} is right`, whole.sha256 === patternHash(size))
    figure(`ipv${family}DownloadMbit`, mbit(whole))
    promise(`ping by IPv${family}`, await reaches(network, address))
  }
  const exit = await exitOf(network)
  const seen = (await network.seenByOrigin()).map(address => address.replace('::ffff:', ''))
  const own = [`${network.address(exit)}:`, `${network.address6(exit as 'left')}:`]
  promise('the origin sees the exit’s addresses', seen.length > 0 && seen.every(a => own.some(ip => a.startsWith(ip))))
  promise('a datagram comes back', await echoes(network))
  const names = await network.inside('getent', 'ahosts', NAME)
  promise('names are answered through the route', names.includes(network.address('web')))
  promise('by IPv6 addresses too', names.includes(network.address6('web')))
  const askers = await network.askers()
  promise(
    'and the resolver sees the exit',
    askers.every(asker => asker === network.address(exit)),
  )
  promise('a large packet comes back whole, in fragments', await reaches(network, network.address('web'), '-s', '4000'))
}

/** Kills a hop of the way in use when a tenth of a download has come. */
async function loseHop(
  network: MachineNetwork,
  place: number,
  size: number,
): Promise<{ readonly isRight: boolean; readonly ms: number }> {
  const { routes } = await network.ready()
  const name = network.relayAt(routes[0]?.hops[place]?.address ?? '')
  const { begun, done } = network.download(size)
  await begun
  if (name !== undefined) await network.kill(name)
  const { sha256, longestPauseMs } = await done
  if (name !== undefined) await network.startRelay(name)
  return { isRight: sha256 === patternHash(size), ms: longestPauseMs }
}

/** Kills the exit, and with it the hop at `place` of the same route. */
async function loseExit(bench: Bench, network: MachineNetwork, size: number, place?: number): Promise<void> {
  const { figure, promise } = bench
  const { routes } = await network.ready()
  const name = await exitOf(network)
  const other = place === undefined ? undefined : network.relayAt(routes[0]?.hops[place]?.address ?? '')
  const what = other === undefined ? 'exit' : 'guardAndExit'
  const { begun, done } = network.download(size)
  await begun
  const killedMs = performance.now()
  await Promise.all([name, other].flatMap(relay => (relay === undefined ? [] : network.kill(relay))))
  const old = await done
  figure(`${what}: lostAfterMs`, Math.round(performance.now() - killedMs))
  promise(`${what}: its connections are reset`, old.error !== undefined && old.bytes < size)
  const isBack = async () => ((await reaches(network, network.address('web'), '-c', '1')) ? true : undefined)
  await waitFor(isBack, 'another exit')
  const backMs = performance.now() - killedMs
  figure(`${what}: anotherAfterMs`, Math.round(backMs))
  promise(`${what}: packets flow again within 6 s`, backMs < 6_000)
  const next = await network.download(MIB).done
  promise(`${what}: a new connection goes through another exit`, next.sha256 === patternHash(MIB))
  promise(`${what}: which is not the one that died`, (await exitOf(network)) !== name)
  for (const relay of [name, other]) if (relay !== undefined) await network.startRelay(relay)
}

async function exitOf(network: MachineNetwork): Promise<RelayName> {
  const { routes } = await network.status()
  const name = network.relayAt(routes[0]?.hops.at(-1)?.address ?? '')
  if (name === undefined) throw new Error('the route has no exit')
  return name
}

interface Measured {
  readonly mbitDown: number
  readonly mbitUp: number
  readonly packetsPerSecond: number
  readonly rttMs: number
}

/** TCP both ways, datagrams of 1,200 bytes that arrive, and the median round trip of an idle path. */
async function measure(network: MachineNetwork): Promise<Measured> {
  const rttMs = await ping(network, 200)
  const down = await iperf(network, '-R', '-t', '5')
  const up = await iperf(network, '-t', '5')
  const udp = await iperf(network, '-u', '-b', '0', '-l', '1200', '-t', '4')
  return {
    mbitDown: Math.round(down.sum_received.bits_per_second / 1e6),
    mbitUp: Math.round(up.sum_received.bits_per_second / 1e6),
    packetsPerSecond: Math.round((udp.sum.packets - udp.sum.lost_packets) / udp.sum.seconds),
    rttMs,
  }
}

interface Iperf {
  readonly sum_received: { readonly bits_per_second: number }
  readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number }
}

async function iperf(network: MachineNetwork, ...flags: string[]): Promise<Iperf> {
  const text = await network.host('me').run('iperf3', '-J', '-c', network.address('web'), ...flags)
  return (JSON.parse(text) as { end: Iperf }).end
}

async function ping(network: MachineNetwork, count: number): Promise<number> {
  const words = ['-i', '0.01', '-c', String(count), '-W', '1', network.address('web')]
  const text = await network.host('me').run('ping', ...words)
  const times = [...text.matchAll(/time=([0-9.]+)/g)].map(match => Number(match[1])).sort((a, b) => a - b)
  return times[times.length >> 1] ?? Number.NaN
}

async function reaches(network: MachineNetwork, address: string, ...words: string[]): Promise<boolean> {
  const probe = network.host('me').run('ping', '-c', '2', '-i', '0.2', '-W', '1', ...words, address)
  return probe.then(
    () => true,
    () => false,
  )
}

async function echoes(network: MachineNetwork): Promise<boolean> {
  const script = `
    import dgram from 'node:dgram'
    const socket = dgram.createSocket('udp4')
    socket.on('message', m => { console.log(String(m)); process.exit(0) })
    setTimeout(() => process.exit(1), 3000)
    socket.send('hello', ${network.echoPort}, '${network.address('web')}')`
  const words = ['--input-type=module', '--eval', script]
  return network
    .host('me')
    .run(process.execPath, ...words)
    .then(
      text => text === 'hello\n',
      () => false,
    )
}

/** Firewall, rules and interfaces of the client. */
async function picture(network: MachineNetwork): Promise<string> {
  const me = network.host('me')
  return [await me.run('nft', 'list', 'ruleset'), await me.ip('rule'), await me.ip('link')].join('\n')
}

function record({ figure }: Bench, name: string, { mbitDown, mbitUp, packetsPerSecond, rttMs }: Measured): void {
  figure(`${name}MbitDown`, mbitDown)
  figure(`${name}MbitUp`, mbitUp)
  figure(`${name}PacketsPerSecond`, packetsPerSecond)
  figure(`${name}RttMs`, rttMs)
}

function mbit({ bytes, ms }: { readonly bytes: number; readonly ms: number }): number {
  return Math.round((bytes * 8) / ms / 1_000)
}

function ratio(a: number, b: number): number {
  return Math.round((a / b) * 100) / 100
}
