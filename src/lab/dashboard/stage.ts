// Where the dashboard is tried: one network of real nodes with an issuer of credits, somebody's VPN, and one browser with a
// person in it. Every test of the dashboard in a process plays here, one after the other.

import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import type { Browser, BrowserContext, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { formatAddress } from '#wire/address.ts'
import { foreignRequests, hasBrowser, startBrowser } from '../browser.ts'
import { startTestIssuer, type TestIssuer } from '../credits/test-issuer.ts'
import { skipUnless } from '../skip.ts'
import { type RelayPlan, Testnet } from '../testnet.ts'
import { WireGuardPair } from '../wireguard/wireguard-pair.ts'

/** As many that are no exits as a client has guards: who is a guard is no exit for it. Each of them is a peer. */
export const RELAYS: readonly RelayPlan[] = [
  { host: '127.21.0.1', operator: 'alder', isExit: false, isPeer: true },
  { host: '127.23.0.1', operator: 'birch', isExit: false, isPeer: true },
  { host: '127.24.0.1', operator: 'elder', isExit: false, isPeer: true },
  { host: '127.25.0.1', operator: 'cedar', isExit: true, country: 'CH' },
  { host: '127.26.0.1', operator: 'dogwood', isExit: true, country: 'IS' },
]
/** What a relay carries for nothing, MiB; half of it brings the first payment, which is a credit for a GiB. */
export const FREE_MIB = 2
const TEST_MS = 120_000
const VOUCHER_MS = 3_600_000
/** The issuer's, which the nodes' own agree with. */
const CLOCK = {
  get now() {
    return Date.now()
  },
}
const VIEW = { viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' } as const

export class Stage {
  net!: Testnet
  vpn!: WireGuardPair
  issuer!: TestIssuer
  browser!: Browser
  context!: BrowserContext
  page!: Page
  origin = ''
  /** What was asked of anybody but the daemon. */
  foreign: string[] = []
  /** Scripts that failed, and what the browser complained of. */
  readonly problems: string[] = []
  #folder: string | undefined

  async start(): Promise<void> {
    this.#folder = mkdtempSync(path.join(tmpdir(), 'hoplite-dashboard-'))
    ;[this.vpn, this.issuer] = await Promise.all([WireGuardPair.start('127.98.0.1'), startTestIssuer({}, CLOCK)])
    const credit = { url: this.issuer.url, id: this.issuer.issuer.id, price: 1, freeMib: FREE_MIB }
    const servers = [formatAddress(this.vpn.server)]
    const [browser, net] = await Promise.allSettled([
      startBrowser(),
      Testnet.start({ relays: RELAYS, hops: 3, proxyPort: 0, observe: false, clientComesLast: true, credit, servers }),
    ])
    // Whichever is there has to be stopped, also when the other is not.
    if (browser.status === 'fulfilled') this.browser = browser.value
    if (net.status === 'fulfilled') this.net = net.value
    for (const one of [net, browser]) if (one.status === 'rejected') throw one.reason
    const { url } = await callAction(this.socket, 'login', {})
    this.origin = new URL(url).origin
    this.context = await this.browser.newContext(VIEW)
    this.foreign = foreignRequests(this.context, this.origin)
    this.page = await this.context.newPage()
    this.#watch(this.page)
    await this.page.goto(url)
  }

  async stop(): Promise<void> {
    await this.browser?.close()
    await Promise.allSettled([this.net?.stop(), this.vpn?.[Symbol.asyncDispose](), this.issuer?.close()])
    if (this.#folder !== undefined) rmSync(this.#folder, { recursive: true, force: true })
  }

  /** The client's control socket. */
  get socket(): string {
    return socketPath(this.net.client.stateDir)
  }

  get folder(): string {
    return this.#folder ?? ''
  }

  /** The dashboard of another node by its control socket, in a browser that knows none. */
  async visit(socket: string): Promise<Page> {
    const { url } = await callAction(socket, 'login', {})
    const context = await this.browser.newContext(VIEW)
    const asked = foreignRequests(context, new URL(url).origin)
    context.on('close', () => this.foreign.push(...asked))
    const page = await context.newPage()
    this.#watch(page)
    await page.goto(url)
    return page
  }

  /** A file on the disk, as a person has it. */
  save(name: string, content: string | Buffer): string {
    const file = path.join(this.folder, name)
    writeFileSync(file, content)
    return file
  }

  /** As wide as a small telephone, for as long as `look` takes. */
  async narrow(look: () => Promise<void>): Promise<void> {
    await this.page.setViewportSize({ width: 360, height: 740 })
    await look()
    await this.page.setViewportSize(VIEW.viewport)
  }

  /** Makes a voucher at the issuer; gives its code. */
  async voucher(credits: number): Promise<string> {
    const [code = ''] = await this.issuer.issuer.vouchers.make(1, credits, Date.now() + VOUCHER_MS)
    return code
  }

  #watch(page: Page): void {
    page.on('pageerror', error => this.problems.push(error.message))
    page.on('console', message => {
      if (message.type() === 'error' && !/status of (4\d\d)/.test(message.text())) this.problems.push(message.text())
    })
  }
}

/** A test that needs the browser. */
export function inBrowser(name: string, run: (t: TestContext) => Promise<void> | void): void {
  void test(name, { timeout: TEST_MS }, async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await run(t)
  })
}
