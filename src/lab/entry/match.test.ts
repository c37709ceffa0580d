// A peer behind a router and a user behind another: real NATs, a real WireGuard server, the daemons as users run them.

import assert from 'node:assert/strict'
import test from 'node:test'
import { PORT_RESTRICTED, SYMMETRIC } from '../nat/home.ts'
import { patternHash } from '../pattern.ts'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { MatchNetwork } from './match-network.ts'

const SIZE = 4 * 2 ** 20
const FIRST_BYTE_MS = 30_000

test('a peer behind a router is entered by from behind another, directly or over a relay', async t => {
  const missing = MatchNetwork.missing()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using network = await MatchNetwork.start({ intervalMs: 250 })
  const peer = await network.addPeer('peer', PORT_RESTRICTED)
  const user = await network.addUser('user', PORT_RESTRICTED)
  const other = await network.addUser('other', SYMMETRIC)
  const hopsOf = async (name: string) => (await network.status(name)).routes[0]?.hops.map(({ id }) => id) ?? []
  const { nodeId = '', listening } = await network.status('peer')

  await t.test('neither of two port-restricted routers needs a setting, and no packet takes a relay', async () => {
    assert.deepEqual(listening['control'], [], 'the peer listens for nobody')
    await network.hoplite(user, 'entry', network.clientFile('user'), '--config', network.config('user'))
    await network.firstByte(user, FIRST_BYTE_MS)
    assert.ok((await network.addressAtServer('user')).startsWith(`${peer.outside}:`))
    await waitFor(async () => ((await hopsOf('user')).length === 1 ? true : undefined), 'the direct way')
    assert.deepEqual(await hopsOf('user'), [nodeId])
    const { sha256 } = await network.download(user, SIZE).done
    assert.equal(sha256, patternHash(SIZE))
  })

  await t.test('the firewall lets through the relays that were asked and what has answered', async () => {
    const text = await user.home.host.run('nft', 'list', 'ruleset')
    const [, elements = ''] = /set relays4 \{[^}]*elements = \{([^}]*)\}/.exec(text) ?? []
    const hosts = elements.split(',').map(each => each.trim().split(' ')[0] ?? '')
    assert.deepEqual(hosts.toSorted(), [...network.relays, peer.outside].toSorted())
  })

  await t.test('from behind a symmetric router it is a relay that joins the two, until a port is guessed', async () => {
    await network.hoplite(other, 'entry', network.clientFile('other'), '--config', network.config('other'))
    await network.firstByte(other, FIRST_BYTE_MS)
    assert.ok((await network.addressAtServer('other')).startsWith(`${peer.outside}:`))
    assert.equal((await hopsOf('other')).at(-1), nodeId)
    await waitFor(async () => ((await hopsOf('other')).length === 1 ? true : undefined), 'the way without the relay')
    const { sha256 } = await network.download(other, SIZE).done
    assert.equal(sha256, patternHash(SIZE))
    const counts = async () => ((await network.status('peer')).peer?.clients === 2 ? true : undefined)
    await waitFor(counts, 'the peer to count both, each once')
  })

  await t.test('a peer that dies is missed, nothing leaves, and when it is back the tunnel heals', async () => {
    network.kill('peer')
    const state = async () => (await network.status('user')).state
    await waitFor(async () => ((await state()) === 'ready' ? undefined : true), 'the loss to be noticed')
    const [vpn = ''] = network.server.split(':')
    await assert.rejects(user.home.host.run('ping', '-c', '1', '-W', '1', vpn), 'nothing goes around')
    await network.startPeer(peer)
    await network.firstByte(user, 2 * FIRST_BYTE_MS)
    assert.equal(await state(), 'ready')
  })
})
