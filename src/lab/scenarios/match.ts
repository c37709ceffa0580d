// Peers that nobody reaches by an address: behind routers of their own, asked by letter. A user behind another router, one behind a
// symmetric NAT, and one whom nothing straight leads to, enter their VPN through them; peers die, and one comes that is reached
// directly. Needs Linux, root, `ip`,
// `nft`, `wireguard-go` and `wg`.

import { MatchNetwork, type Resident } from '../entry/match-network.ts'
import { PORT_RESTRICTED, SYMMETRIC } from '../nat/home.ts'
import { patternHash } from '../pattern.ts'
import type { Bench, Scenario } from '../scenario.ts'
import { waitFor } from '../testnet.ts'

const MIB = 2 ** 20
const FIRST_BYTE_MS = 60_000
const PUBLIC_PEER = '20.11.0.5'

export const match: Scenario = async bench => {
  const { say, figure, promise } = bench
  const size = (bench.size ?? 64) * MIB
  await using network = await MatchNetwork.start()
  say('  the network stands: bootstrap node, three relays, wireguard-go server, origin')
  const peers = [await network.addPeer('one', PORT_RESTRICTED), await network.addPeer('two', PORT_RESTRICTED)]
  const user = await network.addUser('user', PORT_RESTRICTED)
  say('  two peers and a user, each behind a port-restricted NAT')

  await enter(bench, network, user, 'direct')
  const first = await usedPeer(network, user, peers)
  promise('the server sees the address of a peer’s router', first !== undefined)
  promise('the way leads straight from router to router', (await hopsOf(network, user)).length === 1)
  figure('directRttMs', await network.rttMs(user))
  const download = await network.download(user, size).done
  promise(`the hash of ${size / MIB} MiB is right`, download.sha256 === patternHash(size))
  figure('directMbit', mbit(download))
  await spare(network, user)
  const allowed = await relaysOf(user)
  const proven = new Set([...network.relays, ...peers.map(({ outside }) => outside)])
  promise(
    'the firewall lets our sockets through to the proven addresses, and to the relays that were asked for ours',
    allowed.length > 0 && allowed.every(host => proven.has(host)),
  )

  const { begun, done } = network.download(user, size)
  await begun
  network.kill(first?.name ?? '')
  const stalled = await done
  promise('a download survives the SIGKILL of its peer, and its hash is right', stalled.sha256 === patternHash(size))
  figure('failoverStallMs', Math.round(stalled.longestPauseMs))

  if (first !== undefined) await network.startPeer(first)
  const other = await network.addUser('other', SYMMETRIC)
  say('  one more user, behind a symmetric NAT')
  await enter(bench, network, other, 'symmetric')
  promise(
    'the server sees the address of a peer’s router here too',
    (await usedPeer(network, other, peers)) !== undefined,
  )
  const enteredMs = performance.now()
  const isStraight = async () => ((await hopsOf(network, other)).length === 1 ? true : undefined)
  await waitFor(isStraight, 'the way without the relay', FIRST_BYTE_MS)
  figure('symmetricDirectAfterMs', Math.round(performance.now() - enteredMs))
  promise('a relay joins the two, until a port is guessed', true)
  figure('symmetricRttMs', await network.rttMs(other))
  const guessed = await network.download(other, size).done
  promise('the hash is right by that way', guessed.sha256 === patternHash(size))
  figure('symmetricMbit', mbit(guessed))

  const shut = await network.addUser('shut', SYMMETRIC)
  // Nothing goes from home to home.
  await shut.home.router.run('nft', 'insert rule ip home forward ip daddr 20.0.1.0/24 drop')
  say('  another user, whose router lets nothing through to other homes')
  await enter(bench, network, shut, 'relayed')
  promise('the server sees a peer’s router', (await usedPeer(network, shut, peers)) !== undefined)
  promise('a relay joins the two', (await hopsOf(network, shut)).length === 2)
  figure('relayedRttMs', await network.rttMs(shut))
  figure('relayedMbit', mbit(await network.download(shut, size / 4).done))

  await network.addPublicPeer('public', PUBLIC_PEER)
  for (const { name } of peers) network.kill(name)
  const startedMs = performance.now()
  await waitFor(
    async () => ((await network.addressAtServer('user')).startsWith(`${PUBLIC_PEER}:`) ? true : undefined),
    'the way over the peer with an address',
    120_000,
  )
  await network.firstByte(user, FIRST_BYTE_MS)
  figure('healedByPublicPeerMs', Math.round(performance.now() - startedMs))
  promise('with both dead the tunnel heals over a peer that is reached directly', true)
}

async function enter({ figure }: Bench, network: MatchNetwork, user: Resident, kind: string): Promise<void> {
  const startedMs = performance.now()
  const isUp = waitFor(() => network.status(user.name).catch(() => undefined), 'the daemon', FIRST_BYTE_MS)
  void isUp.then(() => figure(`${kind}DaemonUpMs`, Math.round(performance.now() - startedMs)))
  await network.hoplite(user, 'entry', network.clientFile(user.name), '--config', network.config(user.name))
  await network.firstByte(user, FIRST_BYTE_MS)
  figure(`${kind}FirstByteMs`, Math.round(performance.now() - startedMs))
}

async function usedPeer(network: MatchNetwork, user: Resident, peers: readonly Resident[]) {
  const seen = await network.addressAtServer(user.name)
  return peers.find(({ outside }) => seen.startsWith(`${outside}:`))
}

async function hopsOf(network: MatchNetwork, user: Resident): Promise<readonly string[]> {
  const { routes } = await network.status(user.name)
  return routes[0]?.hops.map(({ address }) => address) ?? []
}

function spare(network: MatchNetwork, user: Resident): Promise<unknown> {
  const isThere = async () => {
    const { routes } = await network.status(user.name)
    return routes[0]?.spares?.some(({ isProven }) => isProven) ? true : undefined
  }
  return waitFor(isThere, 'a proven spare peer', FIRST_BYTE_MS)
}

/** Hosts that the user's firewall lets marked sockets send to. */
async function relaysOf({ home }: Resident): Promise<string[]> {
  const text = await home.host.run('nft', 'list', 'ruleset')
  const [, elements = ''] = /set relays4 \{[^}]*elements = \{([^}]*)\}/.exec(text) ?? []
  return elements.split(',').flatMap(each => each.trim().split(' ')[0] ?? [])
}

function mbit({ bytes, ms }: { readonly bytes: number; readonly ms: number }): number {
  return Math.round((bytes * 8) / ms / 1_000)
}
