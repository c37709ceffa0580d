// One's own VPN, entered through a stranger: a client, four peers, a `wireguard-go` server that translates addresses to an
// origin. The client is our own tunnel, then `wireguard-go`. What the server saw, what the peers could read, how long a lost
// peer stalls a download, and what it all costs beside the straight tunnel and a plain `socat` relay.

import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { socketPath } from '#platform/state/directories.ts'
import { EntryNetwork } from '../entry/entry-network.ts'
import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'
import { INSIDE, SERVER_PORT } from '../wireguard/wireguard-go.ts'

const MIB = 2 ** 20
const SPARE_MS = 290_000
const LISTEN = '127.0.0.1:51820'

export const entry: Scenario = async bench => {
  const { say, figure, promise } = bench
  const size = (bench.size ?? 256) * MIB
  await using network = await EntryNetwork.start({ measures: true })
  say('  the network stands: bootstrap node, four peers, wireguard-go server, origin')

  const straight = await throughWireGuardGo(network, network.server, 1_420)
  record(bench, 'straight', straight)
  const socat = network.host('one').start('socat', ['UDP4-LISTEN:7777,fork,reuseaddr', `UDP4:${network.server}`])
  const relayed = await throughWireGuardGo(network, `${network.address('one')}:7777`, 1_420)
  record(bench, 'socat', relayed)
  socat.kill()
  await network.stopWireGuardGo()

  await ownTunnel(bench, network, size)
  const own = await measure(network)
  record(bench, 'ownTunnel', own)
  await network.hoplite('me', 'down')
  promise('after down the client reaches the network directly again', await reachesDirectly(network))

  const text = await network.hoplite(
    'me',
    'entry',
    '--listen',
    LISTEN,
    '--to',
    network.server,
    '--config',
    network.clientConfig(),
  )
  say(text.split('\n').slice(0, 3).join('\n'))
  const mtu = Number(/MTU = ([0-9]+)/.exec(text)?.[1])
  const others = await throughWireGuardGo(network, LISTEN, mtu)
  record(bench, 'entry', others)
  await foreignClient(bench, network, size)

  figure('throughputOfStraight', ratio(others.mbit, straight.mbit))
  figure('ownTunnelOfStraight', ratio(own.mbit, straight.mbit))
  figure('packetsOfSocat', ratio(others.packetsPerSecond, relayed.packetsPerSecond))
  figure('ownTunnelPacketsOfSocat', ratio(own.packetsPerSecond, relayed.packetsPerSecond))
  figure('addedRttUs', Math.round((others.rttMs - straight.rttMs) * 1_000))
  figure('ownTunnelAddedRttUs', Math.round((own.rttMs - straight.rttMs) * 1_000))
}

async function ownTunnel({ say, figure, promise }: Bench, network: EntryNetwork, size: number): Promise<void> {
  const marker = `GET ${network.path(size)}`
  for (const name of network.peerNames) await callAction(socketPath(network.state(name)), 'observe', { marker })
  const startedMs = performance.now()
  const file = network.clientFile(network.server, 'DNS = 10.66.0.1', 'PostUp = touch /tmp/never')
  await network.hoplite('me', 'entry', file, '--config', network.clientConfig())
  figure('ownTunnelUpMs', Math.round(performance.now() - startedMs))
  await spares(network, 2)
  const seen = await network.addressAtServer()
  figure('addressSeenByServer', seen)
  promise(
    'the server sees a peer’s address',
    network.peerNames.some(name => seen.startsWith(`${network.address(name)}:`)),
  )
  const shown = await network.hoplite('me', 'wg', 'show')
  promise('hoplite wg show names the server', shown.includes(`endpoint: ${network.server}`))
  promise(
    'wg show says the same',
    (await network.host('me').run('wg', 'show', interfaceOf(shown))).includes('latest handshake'),
  )
  const whole = await network.download(size).done
  promise(`the hash of ${size / MIB} MiB is right`, whole.sha256 === patternHash(size))
  figure('ownTunnelDownloadMbit', mbit(whole))

  const { begun, done } = network.download(size)
  await begun
  const killed = network.killPeer(await network.addressAtServer())
  const stalled = await done
  promise('a download survives the SIGKILL of its peer, and its hash is right', stalled.sha256 === patternHash(size))
  figure('ownTunnelStallMs', stalled.longestPauseMs)
  promise('it stalls for less than 2 s', stalled.longestPauseMs < 2_000)
  await spares(network, 2)
  for (const name of network.peerNames) {
    if (name === killed) continue
    const saw = await callAction(socketPath(network.state(name)), 'observation', {})
    promise(`peer ${name} could not read the plain text`, !saw.markerOnWire && !saw.markerInside)
    promise(
      `peer ${name} met only public addresses of the client, the server and the directory`,
      saw.addresses.every(isExpected(network)),
    )
  }
  await allLost({ say, figure, promise, size: undefined, minutes: undefined }, network)
}

/** Every peer is killed: nothing leaves, and the tunnel heals when one returns. */
async function allLost({ figure, promise }: Bench, network: EntryNetwork): Promise<void> {
  for (const name of network.peerNames) network.killPeer(`${network.address(name)}:0`)
  await waitFor(async () => ((await status(network)).state === 'ready' ? undefined : true), 'the tunnel to be cut off')
  promise('with every peer dead nothing gets out, not even straight to the server', !(await reachesDirectly(network)))
  promise('the status says so', (await status(network)).problem !== undefined)
  const startedMs = performance.now()
  for (const name of network.peerNames) await network.startPeer(name)
  await waitFor(async () => ((await status(network)).state === 'ready' ? true : undefined), 'the tunnel to heal')
  await waitFor(
    async () =>
      ping(network, 1).then(
        () => true,
        () => undefined,
      ),
    'a packet through it',
  )
  figure('healedAfterMs', Math.round(performance.now() - startedMs))
}

/** A client that we do not control proves spare peers by its own handshakes, two minutes apart. */
async function foreignClient({ say, figure, promise }: Bench, network: EntryNetwork, size: number): Promise<void> {
  say('  waiting for the client’s next handshake, which proves a spare peer (about two minutes)')
  const steady = network.host('me').start('ping', ['-i', '0.5', '-q', INSIDE])
  await spares(network, 1, SPARE_MS)
  steady.kill()
  const { begun, done } = network.download(size)
  await begun
  network.killPeer(await network.addressAtServer())
  const stalled = await done
  promise('wireguard-go’s download survives the SIGKILL of its peer', stalled.sha256 === patternHash(size))
  figure('entryStallMs', stalled.longestPauseMs)
  promise('wireguard-go’s download stalls for less than 2 s', stalled.longestPauseMs < 2_000)
}

interface Measured {
  readonly mbit: number
  readonly packetsPerSecond: number
  readonly rttMs: number
}

async function throughWireGuardGo(network: EntryNetwork, endpoint: string, mtu: number): Promise<Measured> {
  await network.runWireGuardGo(endpoint, mtu)
  await waitFor(
    async () =>
      ping(network, 1).then(
        () => true,
        () => undefined,
      ),
    `a tunnel by ${endpoint}`,
  )
  return measure(network)
}

/** TCP to the server and packets of 1,200 bytes, both inside the tunnel; median round trip of an idle one. */
async function measure(network: EntryNetwork): Promise<Measured> {
  const rttMs = await ping(network, 200)
  const tcp = await iperf(network, '-t', '5')
  const udp = await iperf(network, '-u', '-b', '0', '-l', '1200', '-t', '4')
  return {
    mbit: Math.round(tcp.sum_received.bits_per_second / 1e6),
    packetsPerSecond: Math.round((udp.sum.packets - udp.sum.lost_packets) / udp.sum.seconds),
    rttMs,
  }
}

interface Iperf {
  readonly sum_received: { readonly bits_per_second: number }
  readonly sum: { readonly packets: number; readonly lost_packets: number; readonly seconds: number }
}

async function iperf(network: EntryNetwork, ...flags: string[]): Promise<Iperf> {
  const text = await network.host('me').run('iperf3', '-J', '-c', INSIDE, ...flags)
  return (JSON.parse(text) as { end: Iperf }).end
}

/** The median round trip of `count` pings, in ms. */
async function ping(network: EntryNetwork, count: number): Promise<number> {
  const text = await network.host('me').run('ping', '-i', '0.01', '-c', String(count), '-W', '1', INSIDE)
  const times = [...text.matchAll(/time=([0-9.]+)/g)].map(match => Number(match[1])).sort((a, b) => a - b)
  return times[times.length >> 1] ?? Number.NaN
}

function record({ figure }: Bench, name: string, { mbit, packetsPerSecond, rttMs }: Measured): void {
  figure(`${name}Mbit`, mbit)
  figure(`${name}PacketsPerSecond`, packetsPerSecond)
  figure(`${name}RttMs`, rttMs)
}

function status(network: EntryNetwork): Promise<Status> {
  return callAction(socketPath(network.state('me')), 'status', {})
}

/** Waits until `count` spare peers are proven. */
function spares(network: EntryNetwork, count: number, withinMs = 30_000): Promise<unknown> {
  const isThere = async () => {
    const { routes } = await status(network)
    const proven = routes[0]?.spares?.filter(({ isProven }) => isProven).length ?? 0
    return proven >= count ? true : undefined
  }
  return waitFor(isThere, `${count} proven spare peers`, withinMs)
}

/** Whether a packet from the client gets to the server's own address around the tunnel. */
async function reachesDirectly(network: EntryNetwork): Promise<boolean> {
  const probe = network.host('me').run('ping', '-c', '2', '-W', '1', network.address('vpn'))
  return probe.then(
    () => true,
    () => false,
  )
}

function isExpected(network: EntryNetwork): (address: string) => boolean {
  const known = ['me', 'vpn', 'boot', 'one', 'two', 'three', 'four'] as const
  const hosts = known.map(name => network.address(name))
  return address =>
    hosts.some(host => address.startsWith(`${host}:`)) || address === `${network.address('vpn')}:${SERVER_PORT}`
}

function interfaceOf(shown: string): string {
  return /interface: (\S+)/.exec(shown)?.[1] ?? ''
}

function mbit({ bytes, ms }: { readonly bytes: number; readonly ms: number }): number {
  return Math.round((bytes * 8) / ms / 1_000)
}

function ratio(a: number, b: number): number {
  return Math.round((a / b) * 100) / 100
}
