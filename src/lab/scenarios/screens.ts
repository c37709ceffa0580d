// Pictures of every page of the dashboard in both themes and three widths, of a real client in a real network, to be looked
// at. They go to build/screens; those that documents show go to docs/images.

import { copyFileSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { formatAddress } from '#wire/address.ts'
import { openPage, startBrowser } from '../browser.ts'
import { startIssuerProcess } from '../credits/issuer-process.ts'
import type { Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { SIX_RELAYS, Testnet, waitFor } from '../testnet.ts'
import { WireGuardPair } from '../wireguard/wireguard-pair.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const FOLDER = path.join(ROOT, 'build', 'screens')
const WIDTHS = [360, 820, 1440]
const HEIGHT = 900
const THEMES = ['light', 'dark'] as const
const PAGES = ['home', 'route', 'vpn', 'devices', 'share', 'credits', 'activity', 'settings']
/** Pages of what is started on them, before and while it runs; and of what fails, in the smallest width. */
const PARTS = ['vpn-start', 'vpn-up', 'share-up']
const STATES = ['devices-paired', 'loading', 'error', 'offline']
/** What documents show; of pages that are longer than the screen, what is seen first. */
const SHOWN = ['home-dark-1440', 'route-light-1440', 'vpn-up-light-1440', 'share-dark-1440']
const CROPPED = /^(vpn-up|share)-/
const COUNTRIES = ['DE', 'FR', 'SE', 'NL', 'CH', 'IS']
const RELAYS = SIX_RELAYS.map((plan, i) => ({ ...plan, isPeer: i < 4, country: COUNTRIES[i] ?? 'CH' }))
const CREDITS = 60
const TRAFFIC_ROUNDS = 14

export const screens: Scenario = async ({ say, figure, promise }) => {
  mkdirSync(FOLDER, { recursive: true })
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-screens-'))
  const issuer = await startIssuerProcess(folder)
  const vpn = await WireGuardPair.start('127.98.0.1')
  const credit = { url: issuer.url, id: issuer.id, price: 1, freeMib: 64 }
  const servers = [formatAddress(vpn.server)]
  const net = await Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, credit, servers })
  const browser = await startBrowser()
  try {
    await net.waitReady(true)
    const socket = socketPath(net.client.stateDir)
    await traffic(net)
    const { codes } = (await issuer.admin('vouchers', '--credits', String(CREDITS))) as { codes: string[] }
    await callAction(socket, 'redeemVoucher', { code: codes[0] ?? '' }, 20_000)
    const paintMs = await firstPaint(browser, (await callAction(socket, 'login', {})).url)
    figure('first paint, ms', Math.round(paintMs))
    promise('it paints within a second', paintMs < 1_000)
    let made = 0
    for (const theme of THEMES) {
      const { url } = await callAction(socket, 'login', {})
      made += await photograph(browser, url, theme, net, vpn)
      say(`  ${theme}: done`)
    }
    figure('pictures', made)
    promise(
      'every page was pictured',
      made === THEMES.length * ((PAGES.length + PARTS.length) * WIDTHS.length + STATES.length + 2),
    )
    const images = path.join(ROOT, 'docs', 'images')
    mkdirSync(images, { recursive: true })
    for (const name of SHOWN) copyFileSync(path.join(FOLDER, `${name}.png`), path.join(images, `${name}.png`))
  } finally {
    await browser.close()
    await net.stop()
    await vpn[Symbol.asyncDispose]()
    await issuer.stop()
    rmSync(folder, { recursive: true, force: true })
  }
}

/** Milliseconds from the request to the first thing that is seen, with nothing in the browser's cache. */
async function firstPaint(browser: Browser, url: string): Promise<number> {
  const context = await browser.newContext()
  const page = await context.newPage()
  await page.goto(url)
  await page.getByText('Protected').first().waitFor()
  const ms = await page.evaluate(`performance.getEntriesByName('first-contentful-paint')[0].startTime`)
  await context.close()
  return Number(ms)
}

async function photograph(
  browser: Browser,
  url: string,
  colorScheme: 'light' | 'dark',
  net: Testnet,
  vpn: WireGuardPair,
): Promise<number> {
  const context = await browser.newContext({ colorScheme, viewport: { width: 1440, height: HEIGHT } })
  const page = await context.newPage()
  let made = 0
  const shoot = async (name: string, fullPage: boolean) => {
    await page.screenshot({ path: path.join(FOLDER, `${name}.png`), fullPage })
    made++
  }
  await page.goto(url)
  await page.getByText('Protected').first().waitFor()
  const widths = async (name: string) => {
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: HEIGHT })
      if (name === 'home') await traffic(net, 2)
      const title = `${name}-${colorScheme}-${width}`
      // The navigation of a narrow screen stands at its end: the screen is as long as the page.
      const length = Number(await page.evaluate('document.documentElement.scrollHeight'))
      await page.setViewportSize({ width, height: CROPPED.test(title) && SHOWN.includes(title) ? HEIGHT : length })
      await settle(page)
      await shoot(title, false)
    }
  }
  for (const name of PAGES) {
    await openPage(page, name)
    await page.locator('main form, main .card, main .hero').first().waitFor()
    await widths(name)
  }
  await openPage(page, 'vpn')
  const buffer = Buffer.from(vpn.file('DNS = 10.66.0.1', 'PostUp = echo up'))
  await page.locator('input[type=file]').setInputFiles({ name: 'my-vpn.conf', mimeType: 'text/plain', buffer })
  await page.getByRole('radio', { name: 'My own app' }).click({ force: true })
  await widths('vpn-start')
  await page.getByLabel('Where your app connects').fill('127.0.0.1:0')
  await page.getByRole('button', { name: 'Start', exact: true }).click()
  await page.getByText('A peer stands ready').waitFor()
  const socket = socketPath(net.client.stateDir)
  const { file } = await callAction(socket, 'entry.file', { file: buffer.toString() })
  for (let i = 0; i < 20; i++) await vpn.exchange(file)
  await page.getByText('Your VPN sees a stranger').waitFor()
  await waitForSpares(socket)
  await widths('vpn-up')
  await callAction(socket, 'entry.stop', {})
  await callAction(socket, 'share.start', { as: 'relay' }, 20_000)
  await openPage(page, 'share')
  await page.getByText('You are a relay').waitFor()
  await widths('share-up')
  await callAction(socket, 'share.stop', {})
  await page.reload()
  await page.setViewportSize({ width: 1440, height: HEIGHT })
  await openPage(page, 'home')
  await page.getByRole('button', { name: 'Turn off' }).click()
  await page.getByText('Nothing of yours goes').waitFor()
  await shoot(`off-${colorScheme}-1440`, true)
  await page.getByRole('button', { name: 'Turn on' }).click()
  await page.getByText('Protected').first().waitFor()
  await states(page, shoot, colorScheme)
  const stranger = await browser.newContext({ colorScheme, viewport: { width: 820, height: 600 } })
  const outside = await stranger.newPage()
  await outside.goto(new URL('/', url).href)
  await outside.getByRole('heading').waitFor()
  await outside.screenshot({ path: path.join(FOLDER, `signed-out-${colorScheme}.png`) })
  await context.close()
  await stranger.close()
  return made + 1
}

/** How it looks with devices, before the daemon answers, when it refuses, and when it is gone; said by this test. */
async function states(
  page: Page,
  shoot: (name: string, fullPage: boolean) => Promise<void>,
  colorScheme: string,
): Promise<void> {
  await page.setViewportSize({ width: 360, height: 1_700 })
  const device = (name: string, path: string | undefined) => ({
    ...{ id: name, name, ipv6: 'fd68:6f70:6c69:7df2:b94:c0de:5f:1a2b', ipv4: '100.77.0.2', generation: 1 },
    ...{ pairedMs: 1_760_000_000_000, isConfirmed: true, path, isUp: path !== undefined },
    ...{ rxBytes: 18_234_567, txBytes: 2_345_678 },
    offered: path === undefined ? [] : [{ network: '192.168.1.0/24', isAccepted: true, isInUse: true }],
  })
  const pictured = [device('tower', 'direct'), device('a-machine-with-a-very-long-name-1', undefined)]
  await page.route('**/v1/devices', async route => {
    const book = (await (await route.fetch()).json()) as object
    await route.fulfill({ json: { ...book, devices: pictured } })
  })
  await page.route('**/v1/device.ping', route => route.fulfill({ json: { id: 'tower', name: 'tower', rttMs: 4.2 } }))
  await openPage(page, 'devices')
  await page.getByText('4.2 ms').waitFor()
  await shoot(`devices-paired-${colorScheme}-360`, false)
  await page.setViewportSize({ width: 360, height: HEIGHT })
  const message = 'read the wallet: the disk is full'
  await page.route('**/v1/wallet', route =>
    route.fulfill({ status: 500, json: { error: { code: 'STATE_UNREADABLE', message, advice: 'make room' } } }),
  )
  await openPage(page, 'credits')
  await page.getByText('the disk is full').waitFor()
  await shoot(`error-${colorScheme}-360`, false)
  await page.route('**/v1/**', route => route.abort())
  await openPage(page, 'home')
  await page.evaluate(`document.dispatchEvent(new Event('visibilitychange'))`)
  await page.getByText('The daemon does not answer').waitFor()
  await shoot(`offline-${colorScheme}-360`, false)
  await page.unrouteAll()
  await page.route('**/v1/**', () => {})
  await page.reload()
  await page.locator('.loading').waitFor()
  await shoot(`loading-${colorScheme}-360`, false)
  await page.unrouteAll({ behavior: 'ignoreErrors' })
}

async function waitForSpares(socket: string): Promise<void> {
  await waitFor(async () => {
    const { status } = await callAction(socket, 'entry.status', {})
    return status?.routes[0]?.spares?.length === 2 || undefined
  }, 'two spares')
}

/** Two frames: what changed is drawn. */
async function settle(page: Page): Promise<void> {
  await page.evaluate('new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))')
}

async function traffic(net: Testnet, rounds = TRAFFIC_ROUNDS): Promise<void> {
  const proxy = await net.proxy()
  for (let i = 0; i < rounds; i++) {
    const size = Math.round(400_000 + 900_000 * Math.abs(Math.sin(i * 1.7)))
    await fetchThrough(proxy, net.originHost, net.originHttpPort, `/bytes/${size}`)
    await new Promise(resolve => setTimeout(resolve, 350))
  }
}
