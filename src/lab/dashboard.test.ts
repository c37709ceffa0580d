// The dashboard in a real browser, against a real client in a real network: sign in, connect, see a hop die and the route
// heal, change the route and the settings; nothing from outside is fetched and nobody is shut out.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { defaultConfig } from '#daemon/config.ts'
import { socketPath } from '#platform/directories.ts'
import { loadBundle } from '#web/bundle.ts'
import { texts } from '#web/texts.ts'
import { foreignRequests, hasBrowser, openPage, startBrowser } from './browser.ts'
import { skipUnless } from './skip.ts'
import { SIX_RELAYS, Testnet, waitFor } from './testnet.ts'

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')
const PAGES = ['home', 'route', 'activity', 'settings']
/** `npm run lab -- screens` holds it to one second, with nothing else running. */
const MAX_PAINT_MS = 5_000
const MAX_SCRIPT_BYTES = 100_000

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly nodes: readonly { readonly html: string }[] }[]
}

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
  const problems: string[] = []

  before(async () => {
    if (!hasBrowser) return
    ;[net, browser] = await Promise.all([
      Testnet.start({ relays: SIX_RELAYS, hops: 3, proxyPort: 0, observe: false }),
      startBrowser(),
    ])
    const { url } = await callAction(socketPath(net.client.stateDir), 'login', {})
    origin = new URL(url).origin
    context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' })
    foreign = foreignRequests(context, origin)
    page = await context.newPage()
    page.on('pageerror', error => problems.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error' && !message.text().includes('401')) problems.push(message.text())
    })
    await page.goto(url)
  })
  after(async () => {
    await browser?.close()
    await net?.stop()
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
    for (let i = 0; i < 12; i++) {
      await page.keyboard.press('Tab')
      reached.push(String(await page.evaluate(`document.activeElement?.textContent?.trim() ?? ''`)))
    }
    for (const name of ['Skip to the page', 'Home', 'Route', 'Activity', 'Settings', 'Turn off'])
      assert.ok(reached.includes(name), `${name} in ${reached.join(' | ')}`)
  })

  test('axe finds nothing wrong with any page in either theme', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await page.evaluate(AXE)
    for (const colorScheme of ['light', 'dark'] as const) {
      await page.emulateMedia({ colorScheme })
      for (const name of PAGES) {
        await openPage(page, name)
        await page.evaluate('Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => {})))')
        const { violations } = (await page.evaluate('axe.run()')) as AxeResult
        const found = violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
        assert.deepEqual(found, [], `${name}, ${colorScheme}`)
      }
    }
  })

  test('actions that the dashboard was not written for have pages made from their schemas', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const calls = await pretend(page)
    await page.reload()
    await page.evaluate(AXE)
    const found: string[] = []
    const examine = async (name: string) => {
      await openPage(page, name)
      const { violations } = (await page.evaluate('axe.run()')) as AxeResult
      found.push(...violations.map(({ id, nodes }) => `${name}: ${id}: ${nodes.map(({ html }) => html).join(' ')}`))
    }
    await page.getByRole('link', { name: 'Devices' }).click()
    const invite = page.locator('form').filter({ hasText: 'device.invite' })
    await invite.getByLabel('Name').fill('laptop')
    await invite.getByRole('button', { name: 'Do it' }).click()
    await page.getByRole('img', { name: 'The same as a QR picture' }).waitFor()
    await examine('devices')
    await page.getByRole('link', { name: 'Credits' }).click()
    await page.getByText('Tokens left').waitFor()
    await examine('credits')
    await page.getByRole('link', { name: 'My VPN' }).click()
    const file = { name: 'x.conf', mimeType: 'text/plain', buffer: Buffer.from('no such file') }
    await page.locator('input[type=file]').setInputFiles(file)
    await page.getByText('it has no [Interface] section').waitFor()
    await page.locator('input[type=file]').setInputFiles({ ...file, buffer: Buffer.from('[Interface]\n') })
    await page.getByText('Connected to').waitFor()
    await examine('vpn')
    assert.deepEqual(found, [])
    assert.deepEqual(calls.get('device.invite'), { name: 'laptop' })
    assert.deepEqual(calls.get('entry.start'), { config: '[Interface]\n' })
    await page.unrouteAll({ behavior: 'wait' })
    await page.reload()
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

/** Makes the page believe that the daemon has more actions; gives what they were called with. */
async function pretend(page: Page): Promise<ReadonlyMap<string, unknown>> {
  const calls = new Map<string, unknown>()
  const answers: Record<string, unknown> = {
    'device.invite': { link: 'hoplite:pair/abcdef' },
    'credit.balance': { tokensLeft: 12, isLow: false, spent: [] },
    'entry.status': { connectedTo: 'a peer' },
    'entry.start': {},
    'entry.stop': {},
  }
  const nothing = { type: 'object', properties: {} }
  const named = { type: 'object', properties: { name: { type: 'string' } }, required: ['name'] }
  await page.route('**/v1/openapi.json', async route => {
    const document = (await (await route.fetch()).json()) as { paths: Record<string, unknown> }
    for (const name of Object.keys(answers)) {
      const schema = name === 'device.invite' ? named : nothing
      const permission = name === 'credit.balance' || name === 'entry.status' ? 'read' : 'write'
      const requestBody = { content: { 'application/json': { schema } } }
      document.paths[`/v1/${name}`] = {
        post: { operationId: name, summary: name, 'x-permission': permission, requestBody },
      }
    }
    await route.fulfill({ json: document })
  })
  await page.route(/v1\/(device|credit|entry)\./, async route => {
    const name = route.request().url().split('/').at(-1) ?? ''
    calls.set(name, route.request().postDataJSON())
    await route.fulfill({ json: answers[name] })
  })
  return calls
}
