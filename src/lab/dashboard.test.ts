// The dashboard in a real browser, against a real client in a real network: sign in, connect, see a hop die and the route
// heal, change the route and the settings; nothing from outside is fetched and nobody is shut out.

import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { defaultConfig } from '#daemon/config.ts'
import { socketPath } from '#platform/directories.ts'
import { loadBundle } from '#web/bundle.ts'
import { texts } from '#web/texts.ts'
import { findBarriers, foreignRequests, hasBrowser, openPage, startBrowser } from './browser.ts'
import { type IssuerProcess, startIssuerProcess } from './issuer-process.ts'
import { skipUnless } from './skip.ts'
import { fetchThrough } from './socks-client.ts'
import { SIX_RELAYS, type TestNode, Testnet, waitFor } from './testnet.ts'

const PAGES = ['home', 'route', 'vpn', 'devices', 'share', 'credits', 'activity', 'settings']
const RELAYS = SIX_RELAYS.map((plan, i) => ({ ...plan, isPeer: i < 2 }))
/** More than the route's relays take while it is looked at. */
const VOUCHER = 40
/** `npm run lab -- screens` holds it to one second, with nothing else running. */
const MAX_PAINT_MS = 5_000
const MAX_SCRIPT_BYTES = 100_000

test('the scripts of the dashboard have less than 100 kB, compressed', async () => {
  const files = [...(await loadBundle())].filter(([name]) => name.endsWith('.js'))
  const bytes = files.reduce((sum, [, { bytes }]) => sum + gzipSync(bytes).length, 0)
  assert.ok(files.length > 0 && bytes < MAX_SCRIPT_BYTES, `${bytes} bytes`)
})

test('every section of the configuration has a heading among the settings', () => {
  assert.deepEqual(Object.keys(texts.settings.sections).toSorted(), Object.keys(defaultConfig()).toSorted())
})

const reason = process.platform === 'linux' ? undefined : 'all of 127/8 is loopback only on Linux'

describe('the dashboard in a browser', { skip: reason, timeout: 120_000 }, () => {
  let net: Testnet
  let browser: Browser
  let context: BrowserContext
  let page: Page
  let origin: string
  let foreign: string[]
  let issuer: IssuerProcess | undefined
  let entry: TestNode
  let directory: string | undefined
  const problems: string[] = []

  before(async () => {
    if (!hasBrowser) return
    directory = mkdtempSync(path.join(tmpdir(), 'hoplite-dashboard-'))
    issuer = await startIssuerProcess(directory)
    const credit = { url: issuer.url, id: issuer.id, price: 1, freeMib: 16 }
    ;[net, browser] = await Promise.all([
      Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, credit }),
      startBrowser(),
    ])
    entry = net.startEntry()
    const { url } = await callAction(socketPath(net.client.stateDir), 'login', {})
    origin = new URL(url).origin
    context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' })
    foreign = foreignRequests(context, origin)
    page = await context.newPage()
    page.on('pageerror', error => problems.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error' && !/status of (401|409)/.test(message.text())) problems.push(message.text())
    })
    await page.goto(url)
  })
  /** The dashboard of another node, in a browser that knows none. */
  const visit = async (node: TestNode) => {
    const { url } = await callAction(socketPath(node.stateDir), 'login', {})
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' })
    const asked = foreignRequests(context, new URL(url).origin)
    context.on('close', () => foreign.push(...asked))
    const page = await context.newPage()
    page.on('pageerror', error => problems.push(error.message))
    await page.goto(url)
    return page
  }
  after(async () => {
    await browser?.close()
    await net?.stop()
    await issuer?.stop()
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true })
  })

  test('the link signs in, is used up, and paints soon', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await page.getByText('Protected').first().waitFor()
    assert.equal(new URL(page.url()).hash, '#/', 'the code is gone from the address')
    const paint = (await page.evaluate(
      `performance.getEntriesByName('first-contentful-paint')[0]?.startTime`,
    )) as number
    t.diagnostic(`painted after ${Math.round(paint)} ms`)
    assert.ok(paint < MAX_PAINT_MS, `painted after ${paint} ms`)
    const cookies = await context.cookies()
    assert.deepEqual(
      cookies.map(({ httpOnly, sameSite }) => ({ httpOnly, sameSite })),
      [{ httpOnly: true, sameSite: 'Strict' }],
    )
  })

  test('another browser without the link sees how to get one, and nothing else', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const stranger = await browser.newContext()
    const outside = await stranger.newPage()
    await outside.goto(origin)
    await outside.getByText('hoplite ui').waitFor()
    assert.equal(await outside.getByRole('navigation').count(), 0)
    await stranger.close()
  })

  test('off and on again: two clicks, with the steps in between', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await page.getByRole('button', { name: 'Turn off' }).click()
    await page.getByText('Nothing of yours goes through Hoplite').waitFor()
    assert.equal((await net.status(net.client))?.state, 'off')
    await page.getByRole('button', { name: 'Turn on' }).click()
    await page.getByText('No single machine knows both').waitFor()
    const [, , exit] = (await net.status(net.client))?.routes[0]?.hops ?? []
    await page
      .getByText(exit?.address.split(':')[0] ?? 'none')
      .first()
      .waitFor()
  })

  test('a hop dies: the page shows that the route healed, over other hops', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const status = await net.waitReady(true)
    await openPage(page, 'route')
    const [, middle] = status.routes[0]?.hops ?? []
    assert.ok(middle)
    await page.getByText(middle.address).first().waitFor()
    const victim = net.at(middle.address)
    assert.ok(victim)
    await net.kill(victim)
    await page.getByText('The route healed').waitFor()
    await page.waitForFunction(`!document.querySelector('.hops').textContent.includes('${middle.address}')`)
    await openPage(page, 'activity')
    await page.getByText('open connections went on').first().waitFor()
  })

  test('fewer hops are two keys away', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await openPage(page, 'route')
    await page.getByRole('radio', { name: '3' }).focus()
    await page.keyboard.press('ArrowLeft')
    await waitFor(async () => {
      const route = (await net.status(net.client))?.routes[0]
      return route?.state === 'ready' && route.hops.length === 2 ? true : undefined
    }, 'a route of two hops')
    await page.getByText('The guard knows you, the exit your destinations.').waitFor()
  })

  test('a wrong setting is named as it is typed, and a right one is saved', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await openPage(page, 'settings')
    const proxy = page.getByLabel('Proxy')
    await proxy.fill('here')
    await page.getByText('expected an address to listen on').waitFor()
    assert.equal(await page.getByRole('button', { name: 'Save' }).isDisabled(), true)
    await proxy.fill('127.0.0.1:0')
    await page.getByLabel('Hops').fill('2')
    await page.getByText('2 changes').waitFor()
    await page.getByRole('button', { name: 'Save' }).click()
    await page.getByText('It holds from now on').waitFor()
    const { fields, file } = await callAction(socketPath(net.client.stateDir), 'settings', {})
    assert.equal(fields.find(({ key }) => key === 'client.hops')?.inFile, 2)
    assert.match(readFileSync(file, 'utf8'), /^hops = 2$/m)
  })

  test('every page can be reached and used with the keyboard alone', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await page.goto(`${origin}/#/`)
    await page.reload()
    await page.getByRole('button', { name: 'Turn off' }).waitFor()
    const reached: string[] = []
    for (let i = 0; i < 16; i++) {
      await page.keyboard.press('Tab')
      reached.push(String(await page.evaluate(`document.activeElement?.textContent?.trim() ?? ''`)))
    }
    for (const name of [
      'Skip to the page',
      'Home',
      'Route',
      'My VPN',
      'Devices',
      'Share',
      'Credits',
      'Activity',
      'Settings',
      'Turn off',
    ])
      assert.ok(reached.includes(name), `${name} in ${reached.join(' | ')}`)
  })

  test('axe finds nothing wrong with any page in either theme', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      for (const name of PAGES) {
        await openPage(page, name)
        assert.deepEqual(await findBarriers(page), [], `${name}, ${colorScheme}`)
      }
    }
  })

  test('a voucher is redeemed, credits are given back, and the history has both', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    assert.ok(issuer)
    const { codes } = (await issuer.admin('vouchers', '--credits', String(VOUCHER))) as { codes: string[] }
    await openPage(page, 'credits')
    await page.getByText('0 credits').first().waitFor()
    await page.getByLabel('Code').fill('not-a-voucher')
    await page.getByLabel('Code').press('Enter')
    await page.getByText('That did not work').waitFor()
    await page.getByLabel('Code').fill(codes[0] ?? '')
    await page.getByLabel('Code').press('Enter')
    await page.getByText(`${VOUCHER} credits were added.`).waitFor()
    await page.getByRole('button', { name: 'Show offers' }).click()
    await page.getByText('The issuer sells nothing').waitFor()
    await page.getByLabel('Credits', { exact: true }).fill('2')
    await page.getByRole('button', { name: 'Give back' }).click()
    await page.getByText('2 were given back').waitFor()
    for (const what of ['Voucher redeemed', 'Given back'])
      await page.getByRole('listitem').filter({ hasText: what }).first().waitFor()
    // What a relay carries for nothing is 16 MiB; half of it brings the first payment.
    await fetchThrough(await net.proxy(), net.originHost, net.originHttpPort, `/bytes/${12 * 2 ** 20}`)
    await page.getByRole('listitem').filter({ hasText: 'Spent on routes' }).first().waitFor()
    const { tokens } = await callAction(socketPath(net.client.stateDir), 'wallet', {})
    assert.ok(tokens > 0 && tokens < VOUCHER - 2, `${tokens} tokens`)
  })

  test('an account of a name is made, its recovery code is shown once and brings it back', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await openPage(page, 'credits')
    const account = page.locator('form', { hasText: 'Account' })
    await account.getByLabel('Name').fill('falcon')
    await account.getByLabel('Password').fill('four words and a bit')
    await account.getByRole('button', { name: 'Make the account' }).click()
    await account.getByText('shown this once').waitFor({ timeout: 20_000 })
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
    await account.getByText('The wallet uses the account falcon now').waitFor({ timeout: 20_000 })
    assert.ok(!net.client.log().includes('falcon'), 'its name is not in the log')
    await page.getByLabel('Credits; 0 is no limit').fill('7')
    await page.getByRole('button', { name: 'Save the limit' }).click()
    await page.getByText('It holds when Hoplite starts again').waitFor()
    const { fields } = await callAction(socketPath(net.client.stateDir), 'settings', {})
    assert.equal(fields.find(({ key }) => key === 'credit.spend_limit')?.inFile, 7)
  })

  test('a relay shows what it lends and earns; limits say what they come to before they are saved', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const ofEntry = await waitFor(async () => {
      const status = await net.status(entry)
      return status?.state === 'ready' ? status : undefined
    }, 'the entry to have a peer')
    const relay = net.at(ofEntry.routes[0]?.hops[0]?.address ?? '')
    assert.ok(relay)
    const page = await visit(relay)
    await page.getByText('This node is a relay').waitFor()
    await openPage(page, 'share')
    await page.getByText('1 of 5').waitFor()
    await page.getByText('1 flow', { exact: true }).waitFor()
    const limits = page.locator('form', { hasText: 'Limits' })
    await limits.getByLabel('Speed at most, Mbit/s').fill('8')
    await limits.getByLabel('People at a time').fill('4')
    await limits.getByText('With every place taken, each has 2.0 Mbit/s.').waitFor()
    await limits.getByRole('button', { name: 'Save the limits' }).click()
    await limits.getByText('Saved.').waitFor()
    const { fields } = await callAction(socketPath(relay.stateDir), 'settings', {})
    assert.equal(fields.find(({ key }) => key === 'peer.rate_kbit')?.inFile, 8_000)
    const found = await findBarriers(page)
    await openPage(page, 'credits')
    await page.getByText('Earned by carrying').waitFor()
    assert.deepEqual([...found, ...(await findBarriers(page))], [])
    await page.context().close()
  })

  test('an entry shows its server, its peer, and where one’s own WireGuard connects', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const status = await net.status(entry)
    const page = await visit(entry)
    await openPage(page, 'vpn')
    await page.getByText('A peer stands ready').waitFor()
    await page.getByRole('heading', { name: `${net.originHost}:${net.originUdpPort}` }).waitFor()
    await page
      .getByText(status?.listening['wireguard']?.[0] ?? 'none')
      .first()
      .waitFor()
    await page.getByText(`${status?.mtu} bytes`).waitFor()
    assert.deepEqual(await findBarriers(page), [])
    await page.setViewportSize({ width: 360, height: 740 })
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
    await page.context().close()
  })

  test('no page is wider than a narrow screen', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await page.setViewportSize({ width: 360, height: 740 })
    for (const name of PAGES) {
      await openPage(page, name)
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360, name)
    }
  })

  test('when the daemon ends the page says so, and when it is back the page goes on', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await openPage(page, 'home')
    await net.kill(net.client)
    await page.getByText('The daemon does not answer').waitFor()
    net.startClient()
    await page.getByText('The daemon does not answer').waitFor({ state: 'detached', timeout: 20_000 })
    await page.getByText('No single machine knows both').waitFor({ timeout: 20_000 })
  })

  test('nothing was asked of anybody else, and no script failed', t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    assert.deepEqual(foreign, [])
    const ours = problems.filter(text => !/ERR_(CONNECTION|INCOMPLETE)|Failed to fetch|network error/.test(text))
    assert.deepEqual(ours, [])
  })
})
