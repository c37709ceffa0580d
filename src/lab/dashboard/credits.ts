// The dashboard's wallet: vouchers, what routes cost, an account of a name, a limit.

import assert from 'node:assert/strict'
import { callAction } from '#api/client.ts'
import { findBarriers, openPage } from '../browser.ts'
import { fetchThrough } from '../socks-client.ts'
import { FREE_MIB, inBrowser, type Stage } from './stage.ts'

/** More than all routes and strangers of these tests take. */
const VOUCHER = 60
const SLOW_MS = 40_000

export function testCredits(stage: Stage): void {
  inBrowser('a voucher is redeemed, credits are given back, routes are paid, and the history has it all', async () => {
    const { page, net } = stage
    const code = await stage.voucher(VOUCHER)
    await openPage(page, 'credits')
    await page.getByText('0 credits').first().waitFor()
    await page.getByLabel('Code').fill('not-a-voucher')
    await page.getByLabel('Code').press('Enter')
    await page.getByText('That did not work').waitFor()
    await page.getByLabel('Code').fill(code)
    await page.getByLabel('Code').press('Enter')
    await page.getByText(`${VOUCHER} credits were added.`).waitFor()
    await page.getByRole('button', { name: 'Show offers' }).click()
    await page.getByText('The issuer sells nothing').waitFor()
    await page.getByLabel('Credits', { exact: true }).fill('2')
    await page.getByRole('button', { name: 'Give back' }).click()
    await page.getByText('2 were given back').waitFor()
    const entry = (what: string) => page.getByRole('listitem').filter({ hasText: what }).first()
    for (const what of ['Voucher redeemed', 'Given back']) await entry(what).waitFor()
    const proxy = await net.proxy()
    await fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${(FREE_MIB + 1) * 2 ** 20}`)
    await entry('Spent on routes').waitFor()
    const { tokens } = await callAction(stage.socket, 'wallet', {})
    assert.ok(tokens > 0 && tokens < VOUCHER - 2, `${tokens} tokens`)
  })

  inBrowser('an account of a name is made, its recovery code is shown once and brings it back', async () => {
    const { page, net } = stage
    const account = page.locator('form', { hasText: 'Account' })
    await account.getByLabel('Name').fill('falcon')
    await account.getByLabel('Password').fill('four words and a bit')
    await account.getByRole('button', { name: 'Make the account' }).click()
    await account.getByText('shown this once').waitFor({ timeout: SLOW_MS })
    assert.deepEqual(await findBarriers(page), [])
    const code = (await account.locator('.notice code').textContent()) ?? ''
    assert.ok(code.length > 20)
    await account.getByRole('button', { name: 'I have written it down' }).click()
    await page.getByText('This wallet uses the account falcon.').waitFor()
    assert.ok(!(await page.content()).includes(code), 'it is gone from the page')
    await account.getByRole('radio', { name: 'Recover' }).click({ force: true })
    await account.getByLabel('Name').fill('falcon')
    await account.getByLabel('Recovery code').fill(code)
    await account.getByLabel('New password').fill('another five words of mine')
    await account.getByRole('button', { name: 'Recover the account' }).click()
    await account.getByText('The wallet uses the account falcon now').waitFor({ timeout: SLOW_MS })
    assert.ok(!net.client.log().includes('falcon'), 'its name is not in the log')
    await page.getByLabel('Credits; 0 is no limit').fill('47')
    await page.getByRole('button', { name: 'Save the limit' }).click()
    await page.getByText('It holds when Hoplite starts again').waitFor()
    const { fields } = await callAction(stage.socket, 'settings', {})
    assert.equal(fields.find(({ key }) => key === 'credit.spend_limit')?.inFile, 47)
  })
}
