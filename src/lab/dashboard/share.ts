// Lending from the dashboard: limits say what they come to, one becomes a peer, and stops being one.

import assert from 'node:assert/strict'
import { callAction } from '#api/client.ts'
import { findBarriers, openPage } from '../browser.ts'
import { waitFor } from '../testnet.ts'
import { inBrowser, type Stage } from './stage.ts'

const SLOW_MS = 40_000

export function testShare(stage: Stage): void {
  inBrowser(
    'one becomes a peer by a click, within limits that say what they come to, and stands in the directory',
    async () => {
      const { page, net } = stage
      const bootstrap = net.nodes.find(({ role }) => role === 'bootstrap')
      assert.ok(bootstrap)
      const known = async () => (await net.status(bootstrap))?.directory ?? 0
      const before = await known()
      await openPage(page, 'share')
      await page.getByLabel('Volume of a day, GiB').fill('10')
      await page.getByLabel('Speed at most, Mbit/s').fill('20')
      await page.getByText('At most 10 GiB a day: about 994 kbit/s on average.').waitFor()
      const start = page.getByRole('button', { name: 'Start sharing' })
      await start.click()
      assert.equal((await callAction(stage.socket, 'share.status', {})).state, 'off', 'not before it was read')
      await page.getByLabel('I have read below').check()
      await start.click()
      await page.getByText('You are a peer').waitFor({ timeout: SLOW_MS })
      await page.getByText('0 of 16').waitFor()
      assert.deepEqual(await findBarriers(page), [])
      await waitFor(async () => ((await known()) === before + 1 ? true : undefined), 'the directory to have it')
      await openPage(page, 'home')
      await page.getByText('You are a peer').waitFor()
      await openPage(page, 'share')
      await page.getByLabel('People at a time').fill('3')
      await page.getByRole('button', { name: 'Save the limits' }).click()
      await page.getByText('0 of 3').waitFor({ timeout: SLOW_MS })
      const { status } = await callAction(stage.socket, 'share.status', {})
      assert.deepEqual([status?.role, status?.peer?.maxClients, status?.peer?.rateKbit], ['peer', 3, 20_000])
      await stage.narrow(async () => assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360))
      await page.getByRole('button', { name: 'Stop sharing' }).click()
      await start.waitFor()
    },
  )
}
