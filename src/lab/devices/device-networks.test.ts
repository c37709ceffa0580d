// Devices that offer each other networks and the internet, in namespaces: what is reached, what is not, and what is left behind.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { MachineNetwork } from '../machine/machine-network.ts'
import type { Home } from '../nat/home.ts'
import { type Host, Namespaces } from '../netns.ts'
import { hasTool, skipUnless } from '../skip.ts'
import { hoplite, type Machine, MEETING, pairThem, setUp, startMeeting, untilPath } from './pair-machine.ts'
import { addNetworks, checkCrash, checkExit, checkLan, picture } from './pair-networks.ts'

const ADDRESSES = { tower: '20.0.1.1', laptop: '20.0.1.2' } as const
const TOWER_6 = '2a03:31::5'

test('a device offers its network and the internet, and another accepts and uses them', async t => {
  const missing = MachineNetwork.missing('sysctl')
  const isTool = missing !== undefined && missing !== '/dev/net/tun' && !hasTool(missing)
  if (skipUnless(t, missing === undefined, `needs ${missing}`, isTool ? { tool: missing } : {})) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-networks-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  await using lab = new Namespaces()
  const internet = await lab.switch('inet')
  const meeting = await lab.host('meet')
  await lab.plug(meeting, internet, `${MEETING}/8`)
  await startMeeting(meeting, folder)
  const machine = async (name: keyof typeof ADDRESSES) => {
    const host = await lab.host(name)
    await lab.plug(host, internet, `${ADDRESSES[name]}/8`)
    await host.ip('route', 'add', 'default', 'dev', 'eth0')
    const home = { host } as unknown as Home
    return setUp(folder, { name, home, meet: ['map_port = false'] })
  }
  const [tower, laptop] = [await machine('tower'), await machine('laptop')]
  const networks = await addNetworks(lab, internet, tower.home.host)
  t.after(() => networks.close())
  await addIpv6(tower.home.host)
  const pictures = [await picture(tower.home.host), await picture(laptop.home.host)] as const
  const held = (text: string, isHeld: boolean) => assert.ok(isHeld, text)
  try {
    await pairThem(tower, laptop, held)
    assert.notEqual((await untilPath(laptop, 'tower', 'direct')).ms, -1)
    await t.test('a network behind a device', async () => {
      await checkLan(tower, laptop, networks, held)
      await checkCrash(tower, laptop, pictures, held)
    })
    await t.test('the whole machine through a device', async () => {
      await hoplite(tower, 'devices')
      const exit = { address: ADDRESSES.tower, address6: TOWER_6, isMeasured: false }
      await checkExit(tower, laptop, exit, networks, held)
    })
  } finally {
    for (const each of [tower, laptop] as Machine[]) await hoplite(each, 'down').catch(() => undefined)
  }
})

async function addIpv6(host: Host): Promise<void> {
  await host.ip('address', 'add', `${TOWER_6}/128`, 'dev', 'eth0', 'nodad')
  await host.ip('-6', 'route', 'add', 'default', 'dev', 'eth0')
}
