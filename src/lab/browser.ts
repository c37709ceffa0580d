// Chromium for tests: Debian's, driven by playwright-core, with its own talk to the network off.

import { existsSync, readFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

export const CHROMIUM = '/usr/bin/chromium'
const FLAGS = [
  ...['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run'],
  ...['--disable-background-networking', '--disable-component-update', '--disable-sync'],
]

const AXE = readFileSync(createRequire(import.meta.url).resolve('axe-core/axe.min.js'), 'utf8')

interface AxeResult {
  readonly violations: readonly { readonly id: string; readonly nodes: readonly { readonly html: string }[] }[]
}

/** Whether there is a browser to test with. */
export const hasBrowser: boolean = existsSync(CHROMIUM)

/** @param executablePath Chromium, or a program that becomes it */
export function startBrowser(executablePath = CHROMIUM): Promise<Browser> {
  return chromium.launch({ executablePath, args: FLAGS })
}

/** What axe finds wrong with the page as it is, one line for each rule. */
export async function findBarriers(page: Page): Promise<string[]> {
  await page.evaluate(`if (window.axe === undefined) { ${AXE} }`)
  await page.evaluate('Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => {})))')
  const { violations } = (await page.evaluate('axe.run()')) as AxeResult
  return violations.map(({ id, nodes }) => `${id}: ${nodes.map(({ html }) => html).join(' ')}`)
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
