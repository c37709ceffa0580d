// The dashboard's page of devices beside a real daemon: two machines with a cable between them pair, reach each other through the
// tunnel, offer each other networks, and part again.

import assert from 'node:assert/strict'
import { chmodSync, existsSync, mkdirSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { findBarriers, openPage } from '../browser.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import { PortOut } from '../port-out.ts'
import { skipUnless } from '../skip.ts'
import { waitFor } from '../testnet.ts'
import { inBrowser, type Stage } from './stage.ts'

const MAIN = fileURLToPath(new URL('../../cli/main.ts', import.meta.url))

export function testDevices(stage: Stage): void {
  inBrowser('two devices pair in a browser, one reaches the other, is called something else, and is out', async t => {
    const missing = missingForNamespaces()
    if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
    if (skipUnless(t, existsSync('/dev/net/tun'), 'this machine has no /dev/net/tun')) return
    await using lab = new Namespaces()
    const [tower, laptop] = [await lab.host('tower'), await lab.host('laptop')]
    await lab.cable(tower, '10.9.0.1/24', laptop, '10.9.0.2/24')
    // What root starts is nobody then, and carries its letters there.
    chmodSync(stage.folder, 0o755)
    mkdirSync(path.join(stage.folder, 'letters'))
    chmodSync(path.join(stage.folder, 'letters'), 0o777)
    await using out = await PortOut.open(tower, path.join(stage.folder, 'tower.socket'))
    const [mine, theirs] = await Promise.all([
      start(tower, stage.folder, out.port),
      start(laptop, stage.folder, out.port),
    ])
    const page = await stage.visit(mine)
    try {
      await pair(page, theirs)
      await reach(page, theirs)
      await rename(page)
      await addPhone(page)
      await remove(page, theirs)
    } finally {
      await page.context().close()
      await Promise.allSettled([mine, theirs].map(socket => callAction(socket, 'down', {})))
    }
  })
}

async function pair(page: Page, theirs: string): Promise<void> {
  await page.getByRole('link', { name: 'Devices' }).click()
  await page.getByText('No device is paired yet.').waitFor()
  await page.getByRole('button', { name: 'A picture', exact: true }).click()
  await page.getByRole('img', { name: 'The same as a QR picture' }).waitFor()
  await page.getByRole('button', { name: 'Stop' }).press('Enter')
  await page.getByRole('button', { name: 'Four words' }).waitFor()
  // What had the keyboard is gone: the page has it, and not the frame's beginning.
  await page.locator('main:focus').waitFor()
  await page.getByRole('button', { name: 'Four words' }).press('Enter')
  const code = await page.locator('.pairing code').textContent()
  await callAction(theirs, 'pair.join', { code: code ?? '' })
  await page.getByText('Paired with laptop').waitFor()
  const { words = [] } = await waitFor(async () => {
    const status = await callAction(theirs, 'pair.status', {})
    return status.state === 'paired' ? status : undefined
  }, 'the other side to be paired')
  assert.equal(await page.locator('.pair-words').textContent(), words.join(' '))
}

async function reach(page: Page, theirs: string): Promise<void> {
  const card = page.getByRole('listitem').filter({ hasText: 'laptop' })
  await card.getByText('Direct').waitFor()
  await card.locator('.pill-good').waitFor()
  await card.getByText(/Round trip \d.* ms/).waitFor()
  await card.getByRole('button', { name: 'Ping laptop' }).click()
  await card.getByText(/Answered after .* ms, from 10\.9\.0\.2:/).waitFor()
  await callAction(theirs, 'device.offer', { network: '192.168.77.0/24', to: ['*'] })
  await card.getByRole('button', { name: 'Use it 192.168.77.0/24, laptop' }).click()
  await card.getByRole('button', { name: 'Stop using it 192.168.77.0/24, laptop' }).waitFor()
  const offers = page.locator('form', { hasText: 'Offer a network' })
  await offers.getByRole('textbox', { name: 'Network' }).fill('192.168.78.0/24')
  await offers.getByRole('button', { name: 'Offer', exact: true }).click()
  await offers.getByRole('button', { name: 'Withdraw 192.168.78.0/24' }).waitFor()
  const heard = async () => (await callAction(theirs, 'devices', {})).devices[0]?.offered.length || undefined
  await waitFor(heard, 'the other to hear')
  await offers.getByRole('button', { name: 'Withdraw 192.168.78.0/24' }).click()
  assert.deepEqual(await findBarriers(page), [])
}

async function rename(page: Page): Promise<void> {
  const card = page.getByRole('listitem').filter({ hasText: 'laptop' })
  await card.getByRole('button', { name: 'Rename laptop' }).click()
  await card.getByLabel('Name here').fill('attic')
  await card.getByLabel('Name here').press('Enter')
  await page.getByRole('listitem').filter({ hasText: 'attic' }).waitFor()
  await page.getByLabel('Port').fill('8080')
  await page.getByRole('button', { name: 'Change' }).click()
  await page.getByText('Port 8080 is open for an hour.').waitFor()
}

async function addPhone(page: Page): Promise<void> {
  await page.getByLabel('Name: a-z, 0-9 and -', { exact: true }).fill('pocket')
  await page.getByLabel('Where the phone reaches this device').fill('10.9.0.1:41000')
  await page.getByRole('button', { name: 'Make a picture for a phone' }).click()
  await page.getByText('Scan from QR code').waitFor()
  await page.getByRole('button', { name: 'The phone has it' }).click()
  assert.deepEqual(await findBarriers(page), [])
  await page.setViewportSize({ width: 360, height: 740 })
  assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
}

async function remove(page: Page, theirs: string): Promise<void> {
  const card = page.getByRole('listitem').filter({ hasText: 'attic' })
  await card.getByRole('button', { name: 'Remove attic' }).first().click()
  await card.getByRole('button', { name: 'Remove attic' }).last().click()
  await page.getByText('No device is paired yet.').waitFor()
  const gone = async () => (await callAction(theirs, 'devices', {})).devices.length === 0 || undefined
  await waitFor(gone, 'the other device to know')
  await openPage(page, 'activity')
  await page.getByText('A device was removed.').waitFor()
}

/** A daemon on a host, whose letters go through a folder and whose dashboard has this port; gives its state directory. */
async function start(host: Host, folder: string, port: number): Promise<string> {
  const config = path.join(folder, `${host.name}.toml`)
  const stateDir = path.join(folder, host.name)
  const letters = path.join(folder, 'letters')
  const meet = ['[meet]', `name = "${host.name}"`, `folder = "${letters}"`, 'gossip = false', 'interval_ms = 50']
  const more = ['work_bits = 0', 'map_port = false', 'udp_port = 41000', '[api]', `listen = "127.0.0.1:${port}"`, '']
  writeFileSync(config, ['[client]', 'proxy = "127.0.0.1:0"', ...meet, ...more].join('\n'))
  host.start(process.execPath, ['--no-warnings', MAIN, 'daemon', '--config', config, '--state-dir', stateDir])
  const socket = socketPath(stateDir)
  await waitFor(async () => callAction(socket, 'status', {}).catch(() => undefined), `the daemon of ${host.name}`)
  return socket
}
