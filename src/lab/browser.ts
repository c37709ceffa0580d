// Chromium for tests: Debian's, driven by playwright-core, with its own talk to the network off.

import { existsSync } from 'node:fs'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
]

/** Whether there is a browser to test with. */
export const hasBrowser: boolean = existsSync(CHROMIUM)

export function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
}

/** What a page asked for from anywhere but `origin`. */
export function foreignRequests(context: BrowserContext, origin: string): string[] {
  const foreign: string[] = []
  context.on('request', request => {
    const url = request.url()
    if (!url.startsWith(origin) && !url.startsWith('data:') && foreign.length < 100) foreign.push(url)
  })
  return foreign
}

/** Goes to a page of the dashboard by its name, as a click in the navigation does. */
export async function openPage(page: Page, name: string): Promise<void> {
  await page.evaluate(`location.hash = '#/${name === 'home' ? '' : name}'`)
  await page.locator('main h1, main .hero-title').first().waitFor({ state: 'attached' })
}
