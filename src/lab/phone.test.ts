import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { missingForNamespaces, Namespaces } from './netns.ts'
import { skipUnless } from './skip.ts'

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url))
const missing = missingForNamespaces('wireguard-go', 'wg', 'ping')

test('a phone, which is another WireGuard with the file that was made for it, reaches this device', async t => {
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  if (skipUnless(t, existsSync('/dev/net/tun'), 'this machine has no /dev/net/tun')) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-phone-'))
  await using lab = new Namespaces()
  const [server, phone] = [await lab.host('server'), await lab.host('phone')]
  await lab.cable(server, '10.9.0.1/24', phone, '10.9.0.2/24')
  const config = path.join(folder, 'hoplite.toml')
  writeFileSync(config, '[client]\nproxy = "127.0.0.1:0"\n[meet]\nname = "server"\nby_hand = true\nudp_port = 41000\n')
  const flags = ['--config', config, '--state-dir', path.join(folder, 'state')]
  const hoplite = (...words: string[]) => server.run(process.execPath, '--no-warnings', MAIN, ...words, ...flags)
  try {
    const file = path.join(folder, 'phone.conf')
    await hoplite('devices', 'add-phone', 'pocket', '--endpoint', '10.9.0.1:41000', '--file', file)
    const made = readFileSync(file, 'utf8')
    // `wg` knows nothing of what is the interface's.
    writeFileSync(file, made.replace(/^(Address|MTU) = .*\n/gm, ''))
    const own = /^Address = (\S+\/128)/m.exec(made)?.[1] ?? ''
    const served = /^AllowedIPs = (\S+)\/128/m.exec(made)?.[1] ?? ''
    phone.start('wireguard-go', ['-f', 'phone0'])
    for (let isThere = false; !isThere; )
      isThere = await phone.ip('link', 'show', 'phone0').then(
        () => true,
        () => false,
      )
    await phone.run('wg', 'setconf', 'phone0', file)
    await phone.ip('address', 'add', own, 'dev', 'phone0')
    await phone.ip('link', 'set', 'phone0', 'mtu', '1280', 'up')
    await phone.ip('-6', 'route', 'add', `${served}/128`, 'dev', 'phone0')
    const pinged = await phone.run('ping', '-c', '5', '-i', '0.3', served)
    assert.match(pinged, /[1-5] received/)
    assert.match(await hoplite('devices'), /phone, connected/)
    await hoplite('devices', 'remove', 'pocket')
    await assert.rejects(phone.run('ping', '-c', '1', '-W', '1', served))
  } finally {
    await hoplite('down').catch(() => undefined)
    rmSync(folder, { recursive: true, force: true })
  }
})
