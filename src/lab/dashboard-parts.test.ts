// What a person does at the dashboard who never opens a terminal, in a real browser and a real network: brings the file of a
// VPN and reaches its WireGuard server over a stranger, becomes a peer, chooses where the exit is.

import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, before, describe, test } from 'node:test'
import type { Browser, Page } from 'playwright-core'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/directories.ts'
import { formatAddress } from '#wire/address.ts'
import { findBarriers, foreignRequests, hasBrowser, openPage, startBrowser } from './browser.ts'
import { type IssuerProcess, startIssuerProcess } from './issuer-process.ts'
import { skipUnless } from './skip.ts'
import { type RelayPlan, Testnet, waitFor } from './testnet.ts'
import { WireGuardPair } from './wireguard-pair.ts'

/** As many that are no exits as a client has guards: who is a guard is no exit for it. */
const RELAYS: readonly RelayPlan[] = [
  { host: '127.21.0.1', operator: 'alder', isExit: false, isPeer: true },
  { host: '127.23.0.1', operator: 'birch', isExit: false, isPeer: true },
  { host: '127.24.0.1', operator: 'elder', isExit: false },
  { host: '127.25.0.1', operator: 'cedar', isExit: true, country: 'CH' },
  { host: '127.26.0.1', operator: 'dogwood', isExit: true, country: 'IS' },
]
const reason = process.platform === 'linux' ? undefined : 'all of 127/8 is loopback only on Linux'

describe('the parts of a daemon in a browser', { skip: reason, timeout: 120_000 }, () => {
  let net: Testnet
  let vpn: WireGuardPair
  let issuer: IssuerProcess | undefined
  let browser: Browser
  let page: Page
  let foreign: string[]
  let folder: string | undefined
  const problems: string[] = []
  const socket = () => socketPath(net.client.stateDir)
  /** A file on the disk, as a person has it. */
  const save = (name: string, content: string | Buffer) => {
    const file = path.join(folder ?? '', name)
    writeFileSync(file, content)
    return file
  }
  const bring = (file: string) => page.locator('input[type=file]').setInputFiles(file)

  before(async () => {
    if (!hasBrowser) return
    folder = mkdtempSync(path.join(tmpdir(), 'hoplite-parts-'))
    vpn = await WireGuardPair.start('127.98.0.1')
    issuer = await startIssuerProcess(folder)
    ;[net, browser] = await Promise.all([
      Testnet.start({
        credit: { url: issuer.url, id: issuer.id, price: 1, freeMib: 64 },
        relays: RELAYS,
        hops: 2,
        proxyPort: 0,
        observe: false,
        servers: [formatAddress(vpn.server)],
      }),
      startBrowser(),
    ])
    const { url } = await callAction(socket(), 'login', {})
    const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, reducedMotion: 'reduce' })
    foreign = foreignRequests(context, new URL(url).origin)
    page = await context.newPage()
    page.on('pageerror', error => problems.push(error.message))
    await page.goto(url)
    await page.getByText('Protected').first().waitFor()
  })
  after(async () => {
    await browser?.close()
    await net?.stop()
    await vpn?.[Symbol.asyncDispose]()
    await issuer?.stop()
    if (folder !== undefined) rmSync(folder, { recursive: true, force: true })
  })

  test('what is no WireGuard file is named as such, however long it is, and nothing is begun', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    await openPage(page, 'vpn')
    await page.getByRole('heading', { name: 'Bring your WireGuard file' }).waitFor()
    assert.deepEqual(await findBarriers(page), [])
    await bring(save('film.conf', Buffer.alloc(30 * 2 ** 20, 1)))
    await page.getByText('it is longer than 32 KiB').waitFor()
    await bring(save('garbage.conf', Buffer.from('\u0001\u0002[Interface\nPrivateKey = letmein')))
    await page.getByText('read the file, line 1').waitFor()
    assert.equal(await page.getByText('letmein').count(), 0, 'it is not said again')
    await page.getByRole('button', { name: 'Another file' }).click()
    assert.equal((await callAction(socket(), 'entry.status', {})).state, 'off')
  })

  test('a file is dropped, looked at and started; its VPN answers through a stranger', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const trap = path.join(folder ?? '', 'trap')
    const text = vpn.file('DNS = 10.66.0.1', `PostUp = touch ${trap}`)
    const key = /PrivateKey = (\S+)/.exec(text)?.[1] ?? 'none'
    await openPage(page, 'vpn')
    // As the browser does it when a file is let go over the page.
    await page.evaluate(`(() => {
      const data = new DataTransfer()
      data.items.add(new File([${JSON.stringify(text)}], 'my vpn.conf'))
      const place = document.querySelector('.drop')
      for (const type of ['dragover', 'drop']) place.dispatchEvent(new DragEvent(type, { dataTransfer: data, bubbles: true, cancelable: true }))
    })()`)
    await page.getByText(formatAddress(vpn.server)).first().waitFor()
    await page.getByText(`PostUp = touch ${trap}`).waitFor()
    assert.ok(!(await page.content()).includes(key), 'the private key is not shown')
    await page.getByRole('radio', { name: 'My own app' }).check({ force: true })
    await page.getByLabel('Where your app connects').fill('203.0.113.1:51820')
    await page.getByLabel('Keep the file').check()
    assert.deepEqual(await findBarriers(page), [])
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('choose another with --listen').waitFor()
    await page.getByLabel('Where your app connects').fill('127.0.0.1:0')
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('A peer stands ready').waitFor({ timeout: 20_000 })
    const download = page.waitForEvent('download')
    await page.getByRole('button', { name: 'Download the changed file' }).click()
    const changed = await download
    assert.equal(changed.suggestedFilename(), 'hoplite-my-vpn.conf')
    await vpn.exchange(readFileSync(await changed.path(), 'utf8'))
    await page.getByText('Your VPN sees a stranger').waitFor()
    assert.ok(
      [...vpn.seen].every(host => RELAYS.some(relay => relay.host === host)),
      [...vpn.seen].join(),
    )
    assert.equal(existsSync(trap), false, 'its command was not run')
    assert.deepEqual(await findBarriers(page), [])
    const log = net.client.log()
    assert.ok(!log.includes(key) && !log.includes(trap), 'the log has nothing of the file')
    assert.equal(statSync(path.join(net.client.stateDir, 'vpn.conf')).mode & 0o777, 0o600)
    await assert.rejects(callAction(socket(), 'entry.start', { form: 'listen' }), { code: 'PART_RUNNING' })
  })

  test('strangers are paid from credits that are given to the VPN, and what is left comes back', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    assert.ok(issuer)
    const { codes } = (await issuer.admin('vouchers', '--credits', '20')) as { codes: string[] }
    await callAction(socket(), 'redeemVoucher', { code: codes[0] ?? '' }, 20_000)
    const card = page.locator('form', { hasText: 'Credits for strangers' })
    await card.getByLabel('Credits to give').fill('21')
    await card.getByRole('button', { name: 'Give' }).click()
    await card.getByText('the wallet has 20').waitFor()
    await card.getByLabel('Credits to give').fill('8')
    await card.getByRole('button', { name: 'Give' }).click()
    await card.getByText('8 credits are there now').waitFor({ timeout: 20_000 })
    assert.equal((await callAction(socket(), 'wallet', {})).tokens, 12)
    await card.getByRole('button', { name: 'Take all back' }).click()
    await card.getByText('8 credits are in your wallet again').waitFor({ timeout: 20_000 })
    assert.equal((await callAction(socket(), 'wallet', {})).tokens, 20)
  })

  test('another stranger with one click; stopped, started again from what was kept, and forgotten', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const peer = async () => (await callAction(socket(), 'entry.status', {})).status?.routes[0]?.hops[0]?.operator
    const before = await peer()
    await waitFor(async () => {
      const spares = (await callAction(socket(), 'entry.status', {})).status?.routes[0]?.spares
      return spares !== undefined && spares.length > 0 ? true : undefined
    }, 'a spare')
    await page.getByRole('button', { name: 'New stranger' }).click()
    await waitFor(async () => {
      const now = await peer()
      return now !== undefined && now !== before ? true : undefined
    }, 'another stranger')
    await page.setViewportSize({ width: 360, height: 740 })
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
    await page.setViewportSize({ width: 1280, height: 900 })
    await page.getByRole('button', { name: 'Stop' }).press('Enter')
    await page.getByRole('button', { name: 'Start', exact: true }).click()
    await page.getByText('A peer stands ready').waitFor({ timeout: 20_000 })
    await page.getByRole('button', { name: 'Stop' }).click()
    await page.getByRole('button', { name: 'Forget the file' }).click()
    await page.getByText('Your file is kept').waitFor({ state: 'detached' })
    assert.equal(existsSync(path.join(net.client.stateDir, 'vpn.conf')), false)
    await openPage(page, 'activity')
    await page.getByText('Your VPN is reached through a peer.').first().waitFor()
  })

  test('one becomes a peer by a click, within limits that say what they come to, and stands in the directory', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const bootstrap = net.nodes.find(({ role }) => role === 'bootstrap')
    assert.ok(bootstrap)
    await openPage(page, 'share')
    await page.getByLabel('Volume of a day, GiB').fill('10')
    await page.getByLabel('Speed at most, Mbit/s').fill('20')
    await page.getByText('At most 10 GiB a day: about 994 kbit/s on average.').waitFor()
    assert.deepEqual(await findBarriers(page), [])
    const start = page.getByRole('button', { name: 'Start sharing' })
    await start.click()
    assert.equal((await callAction(socket(), 'share.status', {})).state, 'off', 'not before it was read')
    await page.getByLabel('I have read below').check()
    await start.click()
    await page.getByText('You are a peer').waitFor({ timeout: 20_000 })
    await page.getByText('0 of 16').waitFor()
    assert.deepEqual(await findBarriers(page), [])
    await waitFor(
      async () => ((await net.status(bootstrap))?.directory === RELAYS.length + 1 ? true : undefined),
      'the directory to have it',
    )
    await openPage(page, 'home')
    await page.getByText('You are a peer').waitFor()
    assert.deepEqual(await findBarriers(page), [])
    await openPage(page, 'share')
    await page.getByLabel('People at a time').fill('3')
    await page.getByRole('button', { name: 'Save the limits' }).click()
    await page.getByText('0 of 3').waitFor({ timeout: 20_000 })
    const { status } = await callAction(socket(), 'share.status', {})
    assert.deepEqual([status?.role, status?.peer?.maxClients, status?.peer?.rateKbit], ['peer', 3, 20_000])
    await page.setViewportSize({ width: 360, height: 740 })
    assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
    await page.setViewportSize({ width: 1280, height: 900 })
    await page.getByRole('button', { name: 'Stop sharing' }).click()
    await start.waitFor()
  })

  test('a country is chosen, the route leaves there, and the choice is kept', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const exit = async () => {
      const route = (await net.status(net.client))?.routes[0]
      return route?.state === 'ready' ? route.hops.at(-1)?.country : undefined
    }
    const other = (await waitFor(exit, 'a route')) === 'CH' ? 'IS' : 'CH'
    await openPage(page, 'route')
    const names = { CH: 'Switzerland', IS: 'Iceland' } as const
    const wanted = page.getByRole('group', { name: names[other] })
    await wanted.getByRole('radio', { name: 'Prefer' }).click({ force: true })
    await waitFor(async () => ((await exit()) === other ? true : undefined), 'an exit there')
    await page.getByText(`says it is in ${names[other]}`).waitFor()
    await page.getByRole('group', { name: names[other] }).getByRole('radio', { name: 'Avoid' }).click({ force: true })
    await waitFor(async () => {
      const now = await exit()
      return now !== undefined && now !== other ? true : undefined
    }, 'an exit elsewhere')
    await page.getByRole('button', { name: 'Keep these choices' }).click()
    await page.getByText('Kept in the settings.').waitFor()
    const { fields } = await callAction(socket(), 'settings', {})
    assert.deepEqual(fields.find(({ key }) => key === 'client.avoid_exit_countries')?.inFile, [other])
    assert.deepEqual(await findBarriers(page), [])
  })

  test('a network that a device offers is used by a click, and one is offered; said by a daemon of the test', async t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    const device = { id: 'ab'.repeat(32), name: 'tower', ipv6: 'fd68::2', ipv4: '100.77.0.2', generation: 1 }
    const offers = [{ network: '10.1.0.0/16', to: ['*'], isSetting: true }]
    const offered = [
      { network: '192.168.7.0/24', isAccepted: false, isInUse: false },
      { network: 'internet', isAccepted: true, isInUse: true },
    ]
    const seen = { pairedMs: 1, isConfirmed: true, path: 'direct', isUp: true, rxBytes: 0, txBytes: 0 }
    const book = await callAction(socket(), 'devices', {})
    const told = { ...book, own: { ...book.own, offers }, devices: [{ ...device, ...seen, offered }] }
    const asked: unknown[] = []
    await page.route('**/v1/devices', route => route.fulfill({ json: told }))
    for (const name of ['device.accept', 'device.decline', 'device.offer', 'device.withdraw'])
      await page.route(`**/v1/${name}`, async route => {
        asked.push([name, route.request().postDataJSON()])
        await route.fulfill({ json: { network: '' } })
      })
    await page.route('**/v1/openapi.json', async route => {
      const answer = await route.fetch()
      const document = (await answer.json()) as { paths: Record<string, unknown> }
      document.paths['/v1/device.offer'] = { post: { operationId: 'device.offer' } }
      await route.fulfill({ json: document })
    })
    await page.reload()
    await openPage(page, 'devices')
    const card = page.getByRole('listitem').filter({ hasText: 'tower' })
    await card.getByRole('button', { name: 'Use it 192.168.7.0/24, tower' }).click()
    await card.getByRole('button', { name: 'Stop using it The internet, tower' }).click()
    const form = page.locator('form', { hasText: 'Offer a network' })
    await form.getByText('from the settings').waitFor()
    await form.getByRole('textbox', { name: 'Network' }).fill('192.168.1.0/24')
    await form.getByLabel('For').selectOption('tower')
    await form.getByRole('button', { name: 'Offer', exact: true }).click()
    await waitFor(async () => asked.length === 3 || undefined, 'three requests')
    assert.deepEqual(asked, [
      ['device.accept', { device: device.id, network: '192.168.7.0/24' }],
      ['device.decline', { device: device.id, network: 'internet' }],
      ['device.offer', { network: '192.168.1.0/24', to: [device.id] }],
    ])
    assert.deepEqual(await findBarriers(page), [])
    await page.unrouteAll()
  })

  test('nothing was asked of anybody else, and no script failed', t => {
    if (skipUnless(t, hasBrowser, 'Chromium is not installed', { tool: 'chromium' })) return
    assert.deepEqual([foreign, problems], [[], []])
  })
})
