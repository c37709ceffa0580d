// Pictures of every page of the dashboard in both themes and three widths, of a real client in a real network, to be looked
// at. They go to build/screens; those that documents show go to docs/images.

import { copyFileSync, mkdirSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Browser, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/directories.ts'
import { openPage, startBrowser } from '../browser.ts'
import type { Scenario } from '../scenario.ts'
import { fetchThrough } from '../socks-client.ts'
import { SIX_RELAYS, Testnet } from '../testnet.ts'

const ROOT = fileURLToPath(new URL('../../../', import.meta.url))
const FOLDER = path.join(ROOT, 'build', 'screens')
const WIDTHS = [360, 820, 1440]
const HEIGHT = 900
const THEMES = ['light', 'dark'] as const
const PAGES = ['home', 'route', 'devices', 'share', 'activity', 'settings']
const SHOWN = ['home-dark-1440', 'route-light-1440', 'home-light-360']
const TRAFFIC_ROUNDS = 14

export const screens: Scenario = async ({ say, figure, promise }) => {
  mkdirSync(FOLDER, { recursive: true })
  const net = await Testnet.start({ relays: SIX_RELAYS, hops: 3, proxyPort: 0, observe: false })
  const browser = await startBrowser()
  try {
    await net.waitReady(true)
    const socket = socketPath(net.client.stateDir)
    await traffic(net)
    const paintMs = await firstPaint(browser, (await callAction(socket, 'login', {})).url)
    figure('first paint, ms', Math.round(paintMs))
    promise('it paints within a second', paintMs < 1_000)
    let made = 0
    for (const theme of THEMES) {
      const { url } = await callAction(socket, 'login', {})
      made += await photograph(browser, url, theme, () => traffic(net, 2))
      say(`  ${theme}: done`)
    }
    figure('pictures', made)
    promise('every page was pictured', made === THEMES.length * (PAGES.length * WIDTHS.length + 2))
    const images = path.join(ROOT, 'docs', 'images')
    mkdirSync(images, { recursive: true })
    for (const name of SHOWN) copyFileSync(path.join(FOLDER, `${name}.png`), path.join(images, `${name}.png`))
  } finally {
    await browser.close()
    await net.stop()
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
  beat: () => Promise<void>,
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
  for (const name of PAGES) {
    await openPage(page, name)
    for (const width of WIDTHS) {
      await page.setViewportSize({ width, height: HEIGHT })
      await beat()
      await settle(page)
      await shoot(`${name}-${colorScheme}-${width}`, width > 360 && (name === 'home' || name === 'route'))
    }
  }
  await page.setViewportSize({ width: 1440, height: HEIGHT })
  await openPage(page, 'home')
  await page.getByRole('button', { name: 'Turn off' }).click()
  await page.getByText('Nothing of yours goes').waitFor()
  await shoot(`off-${colorScheme}-1440`, true)
  await page.getByRole('button', { name: 'Turn on' }).click()
  await page.getByText('Protected').first().waitFor()
  const stranger = await browser.newContext({ colorScheme, viewport: { width: 820, height: 600 } })
  const outside = await stranger.newPage()
  await outside.goto(new URL('/', url).href)
  await outside.getByRole('heading').waitFor()
  await outside.screenshot({ path: path.join(FOLDER, `signed-out-${colorScheme}.png`) })
  await context.close()
  await stranger.close()
  return made + 1
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
