// Chromium for tests: Debian's, driven by playwright-core, with its own talk to the network off.

import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createRequire } from 'node:module'
import path from 'node:path'
import { type Browser, type BrowserContext, chromium, type Page } from 'playwright-core'

const CHROMIUM = '/usr/bin/chromium'
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

export function startBrowser(): Promise<Browser> {
  return chromium.launch({ executablePath: CHROMIUM, args: FLAGS })
}

/** Starts it in a network namespace; `folder` is for a program that does so. */
export function startBrowserIn(namespace: string, folder: string): Promise<Browser> {
  const executablePath = path.join(folder, 'chromium')
  writeFileSync(executablePath, `#!/bin/sh\nexec ip netns exec ${namespace} ${CHROMIUM} "$@"\n`, { mode: 0o700 })
  return chromium.launch({ executablePath, args: FLAGS })
}

/** What axe finds wrong with the page as it is, one line for each rule: all of them, or those that are named. */
export async function findBarriers(page: Page, rules?: readonly string[]): Promise<string[]> {
  await page.evaluate(`if (window.axe === undefined) { ${AXE} }`)
  await page.evaluate('Promise.all(document.getAnimations().map(({ finished }) => finished.catch(() => {})))')
  const options = { resultTypes: ['violations'], preload: false, iframes: false, ...(rules && { runOnly: rules }) }
  const { violations } = (await page.evaluate(`axe.run(${JSON.stringify(options)})`)) as AxeResult
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
