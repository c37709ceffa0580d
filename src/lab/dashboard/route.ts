// The dashboard's way in, its button, its picture of the route, and what may be changed of it.

import assert from 'node:assert/strict'
import { callAction } from '#api/client.ts'
import { findBarriers, openPage } from '../browser.ts'
import { waitFor } from '../testnet.ts'
import { inBrowser, RELAYS, type Stage } from './stage.ts'

/** `npm run lab -- screens` holds it to one second, with nothing else running. */
const MAX_PAINT_MS = 5_000

export function testRoute(stage: Stage): void {
  const route = async () => {
    const route = (await stage.net.status(stage.net.client))?.routes[0]
    return route?.state === 'ready' ? route : undefined
  }

  inBrowser('the link signs in, is used up, and paints soon', async t => {
    const { page, context } = stage
    await page.getByText('Protected').first().waitFor()
    assert.equal(new URL(page.url()).hash, '#/', 'the code is gone from the address')
    const entries = `performance.getEntriesByName('first-contentful-paint')`
    const paint = (await page.evaluate(`${entries}[0]?.startTime`)) as number
    t.diagnostic(`painted after ${Math.round(paint)} ms`)
    assert.ok(paint < MAX_PAINT_MS, `painted after ${paint} ms`)
    const cookies = await context.cookies()
    assert.deepEqual(
      cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite })),
      [{ httpOnly: true, sameSite: 'Strict' }],
    )
  })

  inBrowser('another browser without the link sees how to get one, and nothing else', async () => {
    const stranger = await stage.browser.newContext()
    const outside = await stranger.newPage()
    await outside.goto(stage.origin)
    await outside.getByText('hoplite ui').waitFor()
    assert.equal(await outside.getByRole('navigation').count(), 0)
    assert.deepEqual(await findBarriers(outside), [])
    await stranger.close()
  })

  inBrowser('every page is reached with the keyboard alone, and so is the button', async () => {
    const { page } = stage
    await page.getByRole('button', { name: 'Turn off' }).waitFor()
    const reached: string[] = []
    for (let i = 0; i < 16; i++) {
      await page.keyboard.press('Tab')
      reached.push(String(await page.evaluate(`document.activeElement?.textContent?.trim() ?? ''`)))
    }
    const pages = ['Home', 'Route', 'My VPN', 'Devices', 'Share', 'Credits', 'Activity', 'Settings']
    for (const name of ['Skip to the page', ...pages, 'Turn off'])
      assert.ok(reached.includes(name), `${name} in ${reached.join(' | ')}`)
  })

  inBrowser('off and on again: two keys, with the steps in between', async () => {
    const { page, net } = stage
    await page.getByRole('button', { name: 'Turn off' }).focus()
    await page.keyboard.press('Enter')
    await page.getByText('Nothing of yours goes through Hoplite').waitFor()
    assert.equal((await net.status(net.client))?.state, 'off')
    // The button was disabled meanwhile: the keyboard is where it was.
    await page.locator('.power:focus').waitFor()
    await page.keyboard.press('Enter')
    await page.getByText('No single machine knows both').waitFor()
    const exit = (await route())?.hops.at(-1)
    await page
      .getByText(exit?.address.split(':')[0] ?? 'none')
      .first()
      .waitFor()
  })

  inBrowser('a country is chosen, the route leaves there, and the choice is kept', async () => {
    const { page } = stage
    const exit = async () => (await route())?.hops.at(-1)?.country
    const other = (await waitFor(exit, 'a route')) === 'CH' ? 'IS' : 'CH'
    await openPage(page, 'route')
    const names = { CH: 'Switzerland', IS: 'Iceland' } as const
    const wish = (name: string) =>
      page.getByRole('group', { name: names[other] }).getByRole('radio', { name }).click({ force: true })
    await wish('Prefer')
    await waitFor(async () => ((await exit()) === other ? true : undefined), 'an exit there')
    await page.getByText(`says it is in ${names[other]}`).waitFor()
    await wish('Avoid')
    await waitFor(async () => {
      const now = await exit()
      return now !== undefined && now !== other ? true : undefined
    }, 'an exit elsewhere')
    await page.getByRole('button', { name: 'Keep these choices' }).click()
    await page.getByText('Kept in the settings.').waitFor()
    const { fields } = await callAction(stage.socket, 'settings', {})
    assert.deepEqual(fields.find(({ key }) => key === 'client.avoid_exit_countries')?.inFile, [other])
    await wish('Any')
    await page.getByText('Number of hops and countries go into the settings').waitFor()
    await page.getByRole('button', { name: 'Keep these choices' }).click()
    await page.getByText('Kept in the settings.').waitFor()
  })

  inBrowser('a hop dies: the page shows that the route healed, over other hops', async () => {
    const { page, net } = stage
    const status = await net.waitReady(true)
    await openPage(page, 'route')
    const mayDie = (address: string) => RELAYS.some(({ host, isExit }) => !isExit && address.startsWith(`${host}:`))
    const hop = status.routes[0]?.hops.findLast(({ address }) => mayDie(address))
    assert.ok(hop)
    await page.getByText(hop.address).first().waitFor()
    const victim = net.at(hop.address)
    assert.ok(victim)
    await net.kill(victim)
    await page.getByText('The route healed').waitFor()
    await page.locator('.hops').filter({ hasNotText: hop.address }).waitFor()
    await openPage(page, 'activity')
    await page.getByText('open connections went on').first().waitFor()
  })

  inBrowser('fewer hops are a key away, and one is there for the next key', async () => {
    const { page } = stage
    await openPage(page, 'route')
    await page.getByRole('radio', { name: '3' }).focus()
    await page.keyboard.press('ArrowLeft')
    await waitFor(async () => ((await route())?.hops.length === 2 ? true : undefined), 'a route of two hops')
    await page.getByText('The guard knows you, the exit your destinations.').waitFor()
    await page.locator('input[name=hops][value="2"]:focus').waitFor()
  })
}
