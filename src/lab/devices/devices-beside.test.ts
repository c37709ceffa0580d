// A machine that goes through its route, by a daemon without rights, and its devices beside that: their interface and their links.

import assert from 'node:assert/strict'
import { appendFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { MachineNetwork } from '../machine/machine-network.ts'
import type { Home } from '../nat/home.ts'
import { hasTool, skipUnless } from '../skip.ts'
import { hoplite, type Machine, pairThem, untilPath } from './pair-machine.ts'

const COMMAND = fileURLToPath(new URL('../../../bin/hoplite.cjs', import.meta.url))
const LETTERS_PORT = 444

test('with the whole machine in a route its devices are reached directly, and nobody else beside it', async t => {
  const missing = MachineNetwork.missing()
  const isTool = missing !== undefined && missing !== '/dev/net/tun' && !hasTool(missing)
  if (skipUnless(t, missing === undefined, `needs ${missing}`, isTool ? { tool: missing } : {})) return
  await using network = await MachineNetwork.start({ relays: 1, hops: 2 })
  const { me, tower } = await devices(network)
  await pairThem(tower, me, (text, isHeld) => assert.ok(isHeld, text))
  assert.notEqual((await untilPath(me, 'tower', 'direct')).ms, -1)
  await hoplite(me, 'down')
  const host = network.host('me')
  const before = await host.ip('rule')
  try {
    await network.up()
    const { user, helper } = await network.status()
    assert.ok(user !== 0 && helper !== undefined)
    assert.notEqual((await untilPath(me, 'tower', 'direct')).ms, -1)
    const { own } = JSON.parse(await hoplite(tower, 'devices', '--json')) as { own: { ipv4: string; ipv6: string } }
    for (const address of [own.ipv4, own.ipv6]) {
      assert.match(await host.ip('route', 'get', address), /dev hoplite-mesh/)
      await host.run('ping', '-c', '1', '-W', '20', address)
    }
    assert.match(await hoplite(me, 'ping', 'tower'), new RegExp(`direct, ${network.address('boot')}:`))
    // The link goes beside the route, and nothing else to the same host does.
    assert.match(await host.ip('route', 'get', network.address('boot')), /dev hoplite0/)
    const links = await host.run('nft', 'list', 'set', 'inet', 'hoplite-hoplite0', 'links4')
    assert.ok(links.includes(network.address('boot')) && !links.includes(network.address('web')), links)
  } finally {
    for (const machine of [me, tower]) await hoplite(machine, 'down').catch(() => undefined)
  }
  assert.equal(await host.ip('rule'), before)
})

/** The machine of the network as a device, and another at the bootstrap node's host. */
async function devices(network: MachineNetwork): Promise<{ readonly me: Machine; readonly tower: Machine }> {
  const web = network.address('web')
  const file = (name: string, ...lines: string[]) => {
    const at = path.join(network.directory, `${name}.toml`)
    writeFileSync(at, `${lines.join('\n')}\n`)
    return at
  }
  const meet = (name: string) => [
    ...['[meet]', `name = "${name}"`, `rendezvous = ["ws://${web}:${LETTERS_PORT}"]`],
    ...['interval_ms = 250', 'work_bits = 8', 'udp_port = 41000', 'map_port = false'],
  ]
  const letters = file('letters', '[meet]', `listen = "${web}:${LETTERS_PORT}"`, 'work_bits = 8')
  const words = ['rendezvous', '--config', letters, '--state-dir', path.join(network.directory, 'letters')]
  const server = network
    .host('web')
    .start(process.execPath, [COMMAND, ...words], { stdio: ['ignore', 'ignore', 'pipe'] })
  await new Promise(resolve => server.stderr?.once('data', resolve))
  appendFileSync(network.config('me'), `${meet('me').join('\n')}\n`)
  const config = file('tower', '[client]', 'proxy = "127.0.0.1:0"', ...meet('tower'))
  const machine = (name: string, at: 'me' | 'boot', configFile: string, stateDir: string): Machine => {
    const home = { host: network.host(at) } as unknown as Home
    return { name, home, stateDir, flags: ['--config', configFile, '--state-dir', stateDir] }
  }
  return {
    me: machine('me', 'me', network.config('me'), network.state('me')),
    tower: machine('tower', 'boot', config, path.join(network.directory, 'tower')),
  }
}
