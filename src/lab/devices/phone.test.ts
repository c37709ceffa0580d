import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import type { Home } from '../nat/home.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { hoplite, type Machine, MEETING, pairThem, setUp, startMeeting, untilPath } from './pair-machine.ts'
import { reaches } from './pair-networks.ts'

const ADDRESSES = { tower: '20.0.1.1', attic: '20.0.1.2', phone: '20.0.1.3' } as const
const LAN = '10.7.0.0/16'
const DISK = '10.7.0.5'
let interfaces = 0
const missing = missingForNamespaces('nft', 'wireguard-go', 'wg', 'ping')

test('a phone, which is another WireGuard with the file that was made for it, reaches this device, others, and what is behind them', {
  timeout: 120_000,
}, async t => {
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  if (skipUnless(t, existsSync('/dev/net/tun'), 'this machine has no /dev/net/tun')) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-phone-'))
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  await using lab = new Namespaces()
  const internet = await lab.switch('inet')
  const host = async (name: string, address: string) => {
    const made = await lab.host(name)
    await lab.plug(made, internet, `${address}/8`)
    return made
  }
  await startMeeting(await host('meet', MEETING), folder)
  const machine = async (name: 'tower' | 'attic') => {
    const home = { host: await host(name, ADDRESSES[name]) } as unknown as Home
    return setUp(folder, { name, home, meet: ['map_port = false'] })
  }
  const [tower, attic] = [await machine('tower'), await machine('attic')]
  const phone = await host('phone', ADDRESSES.phone)
  const disk = await lab.host('disk')
  await lab.cable(attic.home.host, '10.7.0.1/16', disk, `${DISK}/16`)
  try {
    const file = path.join(folder, 'phone.conf')
    const add = (...words: string[]) => hoplite(tower, 'devices', 'add-phone', 'pocket', '--file', file, ...words)
    await add('--endpoint', `${ADDRESSES.tower}:41000`)
    const endFirst = await bringUp(phone, file)
    const served = ownAddress(file, 'AllowedIPs')
    assert.match(await phone.run('ping', '-c', '5', '-i', '0.3', served), /[1-5] received/)
    assert.match(await hoplite(tower, 'devices'), /phone, connected/)

    await pairThem(attic, tower, (text, isHeld) => assert.ok(isHeld, text))
    assert.notEqual((await untilPath(tower, 'attic', 'direct')).ms, -1)
    await hoplite(attic, 'devices', 'offer', LAN)
    await waitFor(async () => hoplite(tower, 'devices', 'accept', 'attic', LAN).catch(() => undefined), 'the offer')
    await waitFor(async () => ((await reaches(tower.home.host, DISK)) ? true : undefined), 'the disk behind attic')
    rmSync(file)
    const text = await add('--again', '--offer', 'devices', LAN)
    assert.match(text, /pocket reaches this device, devices, 10\.7\.0\.0\/16/)
    assert.equal(await reaches(phone, served), false, 'the file of before is of no use')
    await endFirst()
    await bringUp(phone, file)
    const [, theirs = ''] = /^attic\.hop.* (fd68\S+)/m.exec(await hoplite(tower, 'devices')) ?? []
    for (const address of [served, theirs, DISK])
      await waitFor(async () => ((await reaches(phone, address)) ? true : undefined), address)

    await hoplite(tower, 'devices', 'withdraw', LAN)
    await waitFor(async () => ((await reaches(phone, DISK)) ? undefined : true), 'the end of the offer')
    assert.ok(await reaches(tower.home.host, DISK), 'tower itself still does')
    assert.match(await hoplite(tower, 'devices'), /leads to 10\.7\.0\.0\/16, which it may not reach now/)
    await hoplite(tower, 'devices', 'remove', 'pocket')
    assert.equal(await reaches(phone, served), false)
  } finally {
    for (const each of [tower, attic] as Machine[]) await hoplite(each, 'down').catch(() => undefined)
  }
})

function ownAddress(file: string, key: string): string {
  return new RegExp(`^${key} = .*?(fd68\\S+)/128`, 'm').exec(readFileSync(file, 'utf8'))?.[1] ?? ''
}

/** What the official app does with a file: wg(8) knows nothing of addresses and routes. Gives what ends it. */
async function bringUp(phone: Host, file: string): Promise<() => Promise<void>> {
  const made = readFileSync(file, 'utf8')
  const keys = `${file}.keys`
  writeFileSync(keys, made.replace(/^(Address|MTU|DNS) = .*\n/gm, ''))
  // The socket that wg(8) looks for is one for all namespaces.
  const link = `ph${process.pid.toString(36)}-${interfaces++}`
  const child = phone.start('wireguard-go', ['-f', link])
  const isThere = () => phone.run('wg', 'show', link).catch(() => undefined)
  await waitFor(isThere, 'the interface of the phone')
  await phone.run('wg', 'setconf', link, keys)
  const listed = (key: string) => new RegExp(`^${key} = (.*)$`, 'm').exec(made)?.[1]?.split(', ') ?? []
  for (const address of listed('Address')) await phone.ip('address', 'add', address, 'dev', link)
  await phone.ip('link', 'set', link, 'mtu', '1280', 'up')
  for (const network of listed('AllowedIPs'))
    await phone.ip(network.includes(':') ? '-6' : '-4', 'route', 'replace', network, 'dev', link)
  return async () => {
    child.kill()
    await waitFor(async () => ((await isThere()) === undefined ? true : undefined), 'the end of the interface')
  }
}
