// A router of a namespace that runs miniupnpd opens a port when it is asked, by UPnP IGD, and by PCP and NAT-PMP.

import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { createInterface } from 'node:readline'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { addHome, PORT_RESTRICTED } from '#lab/nat/home.ts'
import { type Host, missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'

const WORKER = fileURLToPath(new URL('../../lab/nat/port-mapping-worker.ts', import.meta.url))
const TABLE = `table inet miniupnpd {
  chain forward { type filter hook forward priority -25; policy accept; }
  chain prerouting { type nat hook prerouting priority -100; }
  chain postrouting { type nat hook postrouting priority 110; }
}`

async function startRouter(router: Host, directory: string, ways: string): Promise<void> {
  const settings = [
    'ext_ifname=eth0',
    'listening_ip=eth1',
    ways,
    'secure_mode=yes',
    'upnp_table_name=miniupnpd',
    'upnp_nat_table_name=miniupnpd',
    'upnp_forward_chain=forward',
    'upnp_nat_chain=prerouting',
    'upnp_nat_postrouting_chain=postrouting',
    'allow 1024-65535 0.0.0.0/0 1024-65535',
  ]
  const file = path.join(directory, 'miniupnpd.conf')
  writeFileSync(file, `${settings.join('\n')}\n`)
  await router.run('nft', TABLE)
  const daemon = router.start('miniupnpd', ['-d', '-f', file, '-P', path.join(directory, 'pid')], {
    stdio: ['ignore', 'ignore', 'pipe'],
  })
  const lines = createInterface({ input: daemon.stderr as NodeJS.ReadableStream })
  await new Promise<void>(resolve => lines.on('line', line => /listening/i.test(line) && resolve()))
}

test('a router opens the port when it is asked, whichever way it understands', async t => {
  const missing = missingForNamespaces('nft', 'miniupnpd')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-router-'))
  try {
    for (const ways of ['enable_upnp=yes\nenable_natpmp=no', 'enable_upnp=no\nenable_natpmp=yes']) {
      await using lab = new Namespaces()
      const internet = await lab.switch('inet')
      const { router, host } = await addHome(lab, internet, 1, PORT_RESTRICTED)
      await startRouter(router, directory, ways)
      const asker = host.start(process.execPath, [WORKER, '41000', '192.168.1.2'], {
        stdio: ['pipe', 'pipe', 'inherit'],
      })
      const lines = createInterface({ input: asker.stdout as NodeJS.ReadableStream })[Symbol.asyncIterator]()
      assert.equal((await lines.next()).value, '{"address":{"host":"20.0.1.1","port":41000}}', ways)
      assert.match(await router.run('nft', 'list', 'table', 'inet', 'miniupnpd'), /dnat ip to 192\.168\.1\.2:41000/)
      const ended = new Promise(resolve => asker.once('exit', resolve))
      asker.stdin?.end()
      assert.equal((await lines.next()).value, '{"address":null}')
      await ended
      if (ways.endsWith('natpmp=no')) continue
      assert.doesNotMatch(await router.run('nft', 'list', 'table', 'inet', 'miniupnpd'), /dnat/, 'and takes it back')
    }
  } finally {
    rmSync(directory, { recursive: true })
  }
})
