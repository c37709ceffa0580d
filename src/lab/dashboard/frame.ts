// What holds for every page: nobody is shut out, none is wider than a small telephone, what fails is said, and the end of the
// daemon too; nothing from outside is fetched.

import assert from 'node:assert/strict'
import { findBarriers, openPage } from '../browser.ts'
import { inBrowser, type Stage } from './stage.ts'

const PAGES = ['home', 'route', 'vpn', 'devices', 'share', 'credits', 'activity', 'settings']
/** What each page cannot do without, and what it says when that fails. */
const ASKED = {
  route: 'relays',
  vpn: 'entry.status',
  devices: 'devices',
  share: 'share.status',
  credits: 'wallet',
  settings: 'settings',
}
const SLOW_MS = 60_000

export function testFrame(stage: Stage): void {
  inBrowser(
    'axe finds nothing wrong with any page in either theme, and none is too wide for a narrow screen',
    async () => {
      const { page } = stage
      for (const name of PAGES) {
        await openPage(page, name)
        await page.locator('.waiting').waitFor({ state: 'detached' })
        await page.emulateMedia({ colorScheme: 'light' })
        assert.deepEqual(await findBarriers(page), [], `${name}, light`)
        await page.emulateMedia({ colorScheme: 'dark' })
        assert.deepEqual(await findBarriers(page, ['color-contrast']), [], `${name}, dark`)
        const width = () => page.evaluate('document.documentElement.scrollWidth')
        await stage.narrow(async () => assert.equal(await width(), 360, name))
      }
    },
  )

  inBrowser('a page whose question fails says why, and goes on when it is answered', async () => {
    const { page } = stage
    const refusal = { error: { code: 'DAEMON_FAILED', message: 'answer: the disk is full', advice: 'make room' } }
    for (const [name, action] of Object.entries(ASKED)) {
      await openPage(page, 'home')
      await page.route(`**/v1/${action}`, route => route.fulfill({ status: 500, json: refusal }))
      await openPage(page, name)
      await page.getByText('Answer: the disk is full. Make room.').first().waitFor()
      await page.unrouteAll({ behavior: 'wait' })
      if (name === 'route') await page.getByText('Answer: the disk is full').waitFor({ state: 'detached' })
    }
    assert.equal(stage.problems.splice(0).filter(text => !text.includes('status of 500')).length, 0)
  })

  inBrowser('when the daemon ends the page says so, and when it is back the page goes on', async () => {
    const { page, net } = stage
    await openPage(page, 'home')
    await net.kill(net.client)
    await page.getByText('The daemon does not answer').waitFor()
    await page.getByText('Until then, do not rely on it.').waitFor()
    assert.equal(await page.getByText('Protected', { exact: true }).count(), 0, 'nothing is promised')
    assert.deepEqual(await findBarriers(page), [])
    net.startClient()
    await page.getByText('The daemon does not answer').waitFor({ state: 'detached', timeout: SLOW_MS })
    await page.getByText('No single machine knows both').waitFor({ timeout: SLOW_MS })
  })

  inBrowser('nothing was asked of anybody else, and no script failed', () => {
    assert.deepEqual(stage.foreign, [])
    const ours = stage.problems.filter(text => !/ERR_(CONNECTION|INCOMPLETE)|Failed to fetch|network error/.test(text))
    assert.deepEqual(ours, [])
  })
}
