// The dashboard's page of devices, in a real browser beside a real daemon: two machines with a cable between them pair, reach
// each other through the tunnel, and part again. The browser runs in the network of one of them.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/directories.ts'
import { findBarriers, hasBrowser, openPage, startBrowserIn } from './browser.ts'
import { type Host, missingForNamespaces, Namespaces } from './netns.ts'
import { skipUnless } from './skip.ts'
import { waitFor } from './testnet.ts'

const MAIN = fileURLToPath(new URL('../cli/main.ts', import.meta.url))

test('two devices pair in a browser, one reaches the other, is called something else, and is out', {
  timeout: 90_000,
}, async t => {
  const missing = missingForNamespaces()
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
  if (skipUnless(t, existsSync('/dev/net/tun'), 'this machine has no /dev/net/tun')) return
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-devices-'))
  await using lab = new Namespaces()
  t.after(() => rmSync(folder, { recursive: true, force: true }))
  const [tower, laptop] = [await lab.host('tower'), await lab.host('laptop')]
  await lab.cable(tower, '10.9.0.1/24', laptop, '10.9.0.2/24')
  const [mine, theirs] = await Promise.all([start(tower, folder), start(laptop, folder)])
  const browser = await startBrowserIn(tower.namespace, folder)
  try {
    const page = await browser.newPage({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' })
    await page.goto((await callAction(mine, 'login', {})).url)
    await page.getByRole('link', { name: 'Devices' }).click()
    await page.getByText('No device is paired yet.').waitFor()

    await page.getByRole('button', { name: 'A picture', exact: true }).click()
    await page.getByRole('img', { name: 'The same as a QR picture' }).waitFor()
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByRole('button', { name: 'Four words' }).press('Enter')
    const code = await page.locator('.pairing code').textContent()
    await callAction(theirs, 'pair.join', { code: code ?? '' })
    await page.getByText('Paired with laptop').waitFor()
    const { words = [] } = await waitFor(async () => {
      const status = await callAction(theirs, 'pair.status', {})
      return status.state === 'paired' ? status : undefined
    }, 'the other side to be paired')
    assert.equal(await page.locator('.pair-words').textContent(), words.join(' '))

    const card = page.getByRole('listitem').filter({ hasText: 'laptop' })
    await card.getByText('Direct').waitFor()
    await card.locator('.pill-good').waitFor()
    await card.getByRole('button', { name: 'Ping laptop' }).click()
    await card.getByText(/Answered after .* ms, from 10\.9\.0\.2:/).waitFor()
    assert.deepEqual(await findBarriers(page), [])

    await callAction(theirs, 'device.offer', { network: '192.168.77.0/24', to: ['*'] })
    await card.getByRole('button', { name: 'Use it 192.168.77.0/24, laptop' }).click()
    await card.getByRole('button', { name: 'Stop using it 192.168.77.0/24, laptop' }).waitFor()
    const offers = page.locator('form', { hasText: 'Offer a network' })
    await offers.getByRole('textbox', { name: 'Network' }).fill('192.168.78.0/24')
    await offers.getByRole('button', { name: 'Offer', exact: true }).click()
    await offers.getByRole('button', { name: 'Withdraw 192.168.78.0/24' }).waitFor()
    await waitFor(
      async () => (await callAction(theirs, 'devices', {})).devices[0]?.offered.length || undefined,
      'the other to hear',
    )
    await offers.getByRole('button', { name: 'Withdraw 192.168.78.0/24' }).click()
    assert.deepEqual(await findBarriers(page), [])

    await card.getByRole('button', { name: 'Rename laptop' }).click()
    await card.getByLabel('Name here').fill('attic')
    await card.getByLabel('Name here').press('Enter')
    const renamed = page.getByRole('listitem').filter({ hasText: 'attic' })
    await renamed.waitFor()
    await page.getByLabel('Port').fill('8080')
    await page.getByRole('button', { name: 'Change' }).click()
    await page.getByText('Port 8080 is open for an hour.').waitFor()

    await page.getByLabel('Name: a-z, 0-9 and -', { exact: true }).fill('pocket')
    await page.getByLabel('Where the phone reaches this device').fill('10.9.0.1:41000')
    await page.getByRole('button', { name: 'Make a picture for a phone' }).click()
    await page.getByText('Scan from QR code').waitFor()
    await page.getByRole('button', { name: 'The phone has it' }).click()
    assert.deepEqual(await findBarriers(page), [])
    await page.setViewportSize({ width: 360, height: 740 })
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)

    await renamed.getByRole('button', { name: 'Remove attic' }).first().click()
    await renamed.getByRole('button', { name: 'Remove attic' }).last().click()
    await page.getByText('No device is paired yet.').waitFor()
    const gone = async () => (await callAction(theirs, 'devices', {})).devices.length === 0 || undefined
    await waitFor(gone, 'the other device to know')
    await openPage(page, 'activity')
    await page.getByText('A device was removed.').waitFor()
  } finally {
    await browser.close()
    await Promise.allSettled([mine, theirs].map(socket => callAction(socket, 'down', {})))
  }
})

/** A daemon on a host, whose letters go through a folder; gives its socket. */
async function start(host: Host, folder: string): Promise<string> {
  const config = path.join(folder, `${host.name}.toml`)
  const stateDir = path.join(folder, host.name)
  const meet = ['[meet]', `name = "${host.name}"`, `folder = "${folder}"`, 'gossip = false', 'interval_ms = 50']
  writeFileSync(
    config,
    ['[client]', 'proxy = "127.0.0.1:0"', ...meet, 'work_bits = 0', 'map_port = false', 'udp_port = 41000', ''].join(
      '\n',
    ),
  )
  host.start(process.execPath, ['--no-warnings', MAIN, 'daemon', '--config', config, '--state-dir', stateDir])
  const socket = socketPath(stateDir)
  await waitFor(async () => callAction(socket, 'status', {}).catch(() => undefined), `the daemon of ${host.name}`)
  return socket
}
