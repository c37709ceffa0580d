import assert from 'node:assert/strict'
import test from 'node:test'
import { missingForNamespaces, Namespaces } from '#lab/netns.ts'
import { skipUnless } from '#lab/skip.ts'
import { resolveBootstraps } from './tunnel-network.ts'

const MODULE = new URL('./tunnel-network.ts', import.meta.url).href
const ID = '12D3KooWEyoppNCUx8Yx66oV9fJnriXwCcXwDDUA2kj6vnc6iDEp'

test('the MTU is that of the links of the default routes, whichever IP version has one, and 1500 where there is none', async t => {
  const missing = missingForNamespaces()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using lab = new Namespaces()
  const [here, there] = [await lab.host('here'), await lab.host('there')]
  await lab.cable(here, '10.9.0.1/24', there, '10.9.0.2/24')
  await lab.cable(here, '10.8.0.1/24', there, '10.8.0.2/24')
  const code = `import { linkMtu } from ${JSON.stringify(MODULE)}; process.stdout.write(String(linkMtu(process.argv[1])))`
  const measured = (...except: string[]) =>
    here.run(process.execPath, '--no-warnings', '--input-type=module', '--eval', code, ...except)
  assert.equal(await measured(), '1500')
  await here.ip('link', 'set', 'eth0', 'mtu', '1400')
  await here.ip('link', 'set', 'eth1', 'mtu', '1300')
  await here.ip('-6', 'address', 'add', '2001:db8::1/64', 'dev', 'eth1', 'nodad')
  assert.equal(await measured(), '1500')
  await here.ip('-6', 'route', 'add', 'default', 'via', '2001:db8::2', 'dev', 'eth1')
  assert.equal(await measured(), '1300')
  assert.equal(await measured('eth1'), '1500')
  await here.ip('-6', 'route', 'del', 'default')
  await here.ip('route', 'add', 'default', 'via', '10.9.0.2')
  await here.ip('route', 'add', '0.0.0.0/1', 'via', '10.8.0.2')
  assert.equal(await measured(), '1400')
})

test('bootstrap nodes keep their addresses, names are looked up, and those that nobody knows are left out', async () => {
  const kept = [`/ip4/192.0.2.1/tcp/51820/p2p/${ID}`, `/ip6/2001:db8::1/tcp/443/p2p/${ID}`]
  const { multiaddrs, endpoints } = await resolveBootstraps([
    ...kept,
    `/dns4/localhost/tcp/1/p2p/${ID}`,
    `/dns4/nowhere.invalid/tcp/2/p2p/${ID}`,
    '',
    '/',
  ])
  assert.deepEqual(multiaddrs, [...kept, `/ip4/127.0.0.1/tcp/1/p2p/${ID}`])
  assert.deepEqual(endpoints, [
    { address: '192.0.2.1', protocol: 'tcp', port: 51_820 },
    { address: '2001:db8::1', protocol: 'tcp', port: 443 },
    { address: '127.0.0.1', protocol: 'tcp', port: 1 },
  ])
})
