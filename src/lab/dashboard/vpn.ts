// One's own VPN from the dashboard: its file is brought, its server is reached over a stranger, and the stranger is paid.

import assert from 'node:assert/strict'
import { existsSync, readFileSync, statSync } from 'node:fs'
import path from 'node:path'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { formatAddress } from '#wire/address.ts'
import { findBarriers, openPage } from '../browser.ts'
import { waitFor } from '../testnet.ts'
import { FREE_MIB, inBrowser, RELAYS, type Stage } from './stage.ts'

const SLOW_MS = 40_000
const GIVEN = 8

export function testVpn(stage: Stage): void {
  const bring = (file: string) => stage.page.locator('input[type=file]').setInputFiles(file)
  const status = async () => (await callAction(stage.socket, 'entry.status', {})).status

  inBrowser('what is no WireGuard file is named as such, however long it is, and nothing is begun', async () => {
    const { page } = stage
    await openPage(page, 'vpn')
    await page.getByRole('heading', { name: 'Bring your WireGuard file' }).waitFor()
    await bring(stage.save('film.conf', Buffer.alloc(30 * 2 ** 20, 1)))
    await page.getByText('it is longer than 32 KiB').waitFor()
    await bring(stage.save('garbage.conf', Buffer.from('\u0001\u0002[Interface\nPrivateKey = letmein')))
    await page.getByText('read the file, line 1').waitFor()
    assert.equal(await page.getByText('letmein').count(), 0, 'it is not said again')
    await page.getByRole('button', { name: 'Another file' }).click()
    assert.equal((await callAction(stage.socket, 'entry.status', {})).state, 'off')
  })

  inBrowser('a file is dropped, looked at and started; its VPN answers through a stranger', async () => {
    const { page, vpn, net } = stage
    const trap = path.join(stage.folder, 'trap')
    const text = vpn.file('DNS = 10.66.0.1', `PostUp = touch ${trap}`)
    const key = /PrivateKey = (\S+)/.exec(text)?.[1] ?? 'none'
    // As the browser does it when a file is let go over the page.
    await page.evaluate(`(() => {
      const data = new DataTransfer()
      data.items.add(new File([${JSON.stringify(text)}], 'my vpn.conf'))
      const place = document.querySelector('.drop')
      for (const type of ['dragover', 'drop']) place.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }))
    })()`)
    await page.getByText(formatAddress(vpn.server)).first().waitFor()
    await page.getByText(`PostUp = touch ${trap}`).waitFor()
    assert.ok(!(await page.content()).includes(key), 'the private key is not shown')
    await page.getByRole('radio', { name: 'My own app' }).check({ force: true })
    await page.getByLabel('Where your app connects').fill('203.0.113.1:51820')
    await page.getByLabel('Keep the file').check()
    assert.deepEqual(await findBarriers(page), [])
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('choose another with --listen').waitFor()
    await page.getByLabel('Where your app connects').fill('127.0.0.1:0')
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('A peer stands ready').waitFor({ timeout: SLOW_MS })
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download the changed file' }).click()
    assert.equal((await download).suggestedFilename(), 'hoplite-my-vpn.conf')
    await vpn.exchange(readFileSync(await (await download).path(), 'utf8'))
    await page.getByText('Your VPN sees a stranger').waitFor()
    assert.ok(
      [...vpn.seen].every(host => RELAYS.some(relay => relay.host === host)),
      [...vpn.seen].join(),
    )
    assert.equal(existsSync(trap), false, 'its command was not run')
    assert.deepEqual(await findBarriers(page), [])
    const log = net.client.log()
    assert.ok(!log.includes(key) && !log.includes(trap), 'the log has nothing of the file')
    assert.equal(statSync(path.join(net.client.stateDir, 'vpn.conf')).mode & 0o777, 0o600)
    await assert.rejects(callAction(stage.socket, 'entry.start', { form: 'listen' }), { code: 'PART_RUNNING' })
  })

  inBrowser('the stranger is paid from what the page gave, earns it, and the rest comes back', async () => {
    const { page, vpn, net } = stage
    const { tokens: had } = await callAction(stage.socket, 'wallet', {})
    const card = page.locator('form', { hasText: 'Credits for strangers' })
    await card.getByLabel('Credits to give').fill(String(had + 1))
    await card.getByRole('button', { name: 'Give' }).click()
    await card.getByText(`the wallet has ${had}`).waitFor()
    await card.getByLabel('Credits to give').fill(String(GIVEN))
    await card.getByRole('button', { name: 'Give' }).click()
    await card.getByText(`${GIVEN} credits are there now`).waitFor({ timeout: SLOW_MS })
    assert.equal((await callAction(stage.socket, 'wallet', {})).tokens, had - GIVEN)

    const peers = net.relays.filter(({ process }) => process.exitCode === null && process.signalCode === null)
    const earned = async () => {
      const all = await Promise.all(peers.map(({ stateDir }) => callAction(socketPath(stateDir), 'earnings', {})))
      return all.reduce((sum, { queued, redeemed }) => sum + queued + redeemed, 0)
    }
    const before = await earned()
    await vpn.send(FREE_MIB * 2 ** 20)
    const paid = await waitFor(async () => {
      const left = (await status())?.credits?.tokens ?? GIVEN
      return left < GIVEN && (await earned()) - before === GIVEN - left ? GIVEN - left : undefined
    }, 'what was paid to be what was earned')
    await card.locator('.row strong', { hasText: `${GIVEN - paid} credits` }).waitFor()
    const [hop] = (await status())?.routes[0]?.hops ?? []
    await looksAtPeer(stage, socketPath(net.at(hop?.address ?? '')?.stateDir ?? ''))

    await card.getByRole('button', { name: 'Take all back' }).click()
    await card.getByText(`${GIVEN - paid} credits are in your wallet again`).waitFor({ timeout: SLOW_MS })
    assert.equal((await callAction(stage.socket, 'wallet', {})).tokens, had - paid)
  })

  inBrowser('another stranger with one click; stopped, started again from what was kept, and forgotten', async () => {
    const { page } = stage
    const peer = async () => (await status())?.routes[0]?.hops[0]?.operator
    const before = await peer()
    await waitFor(async () => ((await status())?.routes[0]?.spares?.length ? true : undefined), 'a spare')
    await page.getByRole('button', { name: 'New stranger' }).click()
    await page.getByText('Another stranger stands before your VPN now').waitFor()
    await waitFor(async () => {
      const now = await peer()
      return now !== undefined && now !== before ? true : undefined
    }, 'another stranger')
    await stage.narrow(async () => assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360))
    await page.getByRole('button', { name: 'Stop' }).press('Enter')
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('A peer stands ready').waitFor({ timeout: SLOW_MS })
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByRole('button', { name: 'Forget the file' }).click()
    await page.getByText('Your file is kept').waitFor({ state: 'detached' })
    assert.equal(existsSync(path.join(stage.net.client.stateDir, 'vpn.conf')), false)
    await openPage(page, 'activity')
    await page.getByText('Your VPN is reached through a peer.').first().waitFor()
  })
}

/** What the stranger's own dashboard says: whom it serves, within which limits, and what it took. */
async function looksAtPeer(stage: Stage, socket: string): Promise<void> {
  const page = await stage.visit(socket)
  await page.getByText('This node is a relay').waitFor()
  await openPage(page, 'share')
  await page.getByText('1 of 5').waitFor()
  const limits = page.locator('form', { hasText: 'Limits' })
  await limits.getByLabel('Speed at most, Mbit/s').fill('8')
  await limits.getByLabel('People at a time').fill('4')
  await limits.getByText('With every place taken, each has 2.0 Mbit/s.').waitFor()
  await limits.getByRole('button', { name: 'Save the limits' }).click()
  await limits.getByText('Saved.').waitFor()
  const { fields } = await callAction(socket, 'settings', {})
  assert.equal(fields.find(({ key }) => key === 'peer.rate_kbit')?.inFile, 8_000)
  const found = await findBarriers(page)
  await openPage(page, 'credits')
  await page.getByText('Earned by carrying').waitFor()
  await page.getByText(/[1-9] taken, not yet handed in/).waitFor()
  assert.deepEqual([...found, ...(await findBarriers(page))], [])
  await page.context().close()
}
