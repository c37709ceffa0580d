import assert from 'node:assert/strict'
import { once } from 'node:events'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { waitFor } from '#lab/testnet.ts'
import type { ClientOrder, ExitOrder } from '../helper/helper-order.ts'
import { NetworkGuard } from './network-guard.ts'

const MODULE = JSON.stringify(new URL('../helper/helper.ts', import.meta.url))
const HELPER = `
  import { Helper, MACHINE } from ${MODULE}
  const order = JSON.parse(process.argv[1])
  const helper = new Helper(order, MACHINE, error => console.log(error?.message ?? 'mended'))
  await helper.handle({ verb: 'open', mtu: 1280, queues: 1, control: [] })
  if (order.tunnel.kind === 'client') {
    await helper.handle({ verb: 'relays', relays: [{ address: '192.0.2.1', protocol: 'udp', port: 4000 }] })
    await helper.handle({ verb: 'control', control: [{ address: '192.0.2.1', protocol: 'tcp', port: 4001 }] })
    await helper.handle({ verb: 'mtu', mtu: 1400 })
  }
  console.log('ready')
  process.stdin.once('data', async () => { await helper.handle({ verb: 'restore' }); process.exit() })
`
const CLIENT: ClientOrder = {
  kind: 'client',
  name: 'hop0',
  addresses: ['10.77.0.2/32', 'fd77::2/128'],
  dnsServers: [],
  dnsSearch: [],
  routes: ['0.0.0.0/0', '::/0'],
  killSwitch: true,
  lan: [],
  split: {},
}
const EXIT: ExitOrder = {
  kind: 'exit',
  name: 'hop0',
  addresses: ['10.64.0.1/16'],
  denied: ['10.0.0.0/8'],
  rules: [],
  allowed: [],
  resolver: { address: '192.0.0.1', servers: ['192.0.2.53'] },
}

test('what another program takes away of a client is put back: all tables, all rules, one rule, a chain', async t => {
  await using lab = new Namespaces()
  const started = await start(t, lab, CLIENT)
  if (started === undefined) return
  const { host, said, child } = started
  const before = await picture(host)
  assert.match(before, /192\.0\.2\.1 \. udp \. 4000/)
  for (const harm of [
    'nft flush ruleset',
    'ip rule flush; ip rule add lookup main priority 32766; ip rule add lookup default priority 32767; ip -6 rule flush; ip -6 rule add lookup main priority 32766',
    'ip rule del priority 3209',
    'nft flush chain inet hoplite-hop0 output',
    'nft delete table inet hoplite-hop0; ip -6 rule del priority 3209',
  ]) {
    const count = said.length
    await host.run('sh', '-c', harm)
    await waitFor(async () => said[count], `the end of ${harm}`)
    assert.equal(said[count], 'mended', harm)
    assert.equal(await picture(host), before, harm)
  }
  child.stdin?.write('\n')
  await once(child, 'exit')
  assert.doesNotMatch(await picture(host), /hoplite|^32\d\d:/m)
})

test('what others have beside it is theirs, and no reason to do anything', async t => {
  await using lab = new Namespaces()
  const started = await start(t, lab, CLIENT)
  if (started === undefined) return
  const { host, said } = started
  await host.run('nft', 'table inet theirs { chain input { type filter hook input priority 5; }; }')
  await host.ip('rule', 'add', 'priority', '100', 'lookup', 'main')
  await host.run('nft', 'delete', 'table', 'inet', 'hoplite-hop0')
  await waitFor(async () => (said.length > 0 ? true : undefined), 'what is ours')
  assert.deepEqual(said, ['mended'])
  assert.match(await host.run('nft', 'list', 'tables'), /theirs/)
  assert.match(await host.ip('rule'), /^100:/m)
})

test('the filter of an exit is put back', async t => {
  await using lab = new Namespaces()
  const started = await start(t, lab, EXIT)
  if (started === undefined) return
  const { host, said } = started
  const before = await picture(host)
  await host.run('nft', 'flush', 'ruleset')
  await waitFor(async () => said[0], 'the filter')
  assert.equal(await picture(host), before)
})

test('news are looked at once a second at most, and one that cannot be put back is told and tried with the next', async t => {
  t.mock.timers.enable({ apis: ['setInterval'] })
  let [hasNews, looks, isThere] = [false, 0, true]
  const told: unknown[] = []
  using guard = new NetworkGuard({
    news: { take: () => hasNews, [Symbol.dispose]: () => undefined },
    look: async () => {
      looks++
      return String(isThere)
    },
    mend: async () => {
      throw new Error('no')
    },
    inTurn: act => act(),
    onChanged: error => told.push((error as Error).message),
  })
  await guard.settle()
  t.mock.timers.tick(2_000)
  assert.equal(looks, 1)
  ;[hasNews, isThere] = [true, false]
  for (let i = 0; i < 5; i++) {
    t.mock.timers.tick(200)
    await new Promise(resolve => setImmediate(resolve))
  }
  assert.deepEqual([looks, told], [2, ['no']])
})

async function start(t: TestContext, lab: Namespaces, tunnel: ClientOrder | ExitOrder) {
  const missing = missingForNamespaces('nft')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return undefined
  if (skipUnless(t, existsSync('/dev/net/tun'), 'needs /dev/net/tun')) return undefined
  const [host, router] = [await lab.host('host'), await lab.host('router')]
  await lab.cable(host, '192.168.7.2/24', router, '192.168.7.1/24')
  await host.ip('route', 'add', 'default', 'via', '192.168.7.1')
  const journal = mkdtempSync(path.join(tmpdir(), 'hoplite-guard-'))
  t.after(() => rmSync(journal, { recursive: true, force: true }))
  const order = JSON.stringify({ tunnel, journal, uid: 0, hooks: [] })
  const words = ['--no-warnings', '--input-type=module', '--eval', HELPER, order]
  const child = host.start(process.execPath, words, { stdio: ['pipe', 'pipe', 'inherit'] })
  const said: string[] = []
  child.stdout?.setEncoding('utf8').on('data', (text: string) => said.push(...text.trim().split('\n')))
  await waitFor(async () => said[0], 'the helper')
  assert.equal(said.shift(), 'ready')
  return { host, said, child }
}

async function picture(host: Host): Promise<string> {
  const parts = [host.run('nft', '-s', 'list', 'ruleset'), host.ip('rule'), host.ip('-6', 'rule')]
  return (await Promise.all(parts)).join('\n')
}
