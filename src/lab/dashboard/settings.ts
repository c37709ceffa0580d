// The dashboard's settings: checked as they are typed, written to the file, and said to be read alone where they are.

import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { callAction } from '#api/client.ts'
import { socketPath } from '#platform/state/directories.ts'
import { findBarriers, openPage } from '../browser.ts'
import { inBrowser, type Stage } from './stage.ts'

export function testSettings(stage: Stage): void {
  inBrowser('a wrong setting is named as it is typed, and a right one is saved', async () => {
    const { page } = stage
    await openPage(page, 'settings')
    const proxy = page.getByLabel('Proxy')
    const save = page.getByRole('button', { name: 'Save' })
    await proxy.fill('here')
    await page.getByText('expected an address to listen on').waitFor()
    assert.equal(await save.isDisabled(), true)
    await proxy.fill('127.0.0.1:0')
    await page.getByLabel('Hops').fill('2')
    await page.getByText('2 changes').waitFor()
    await page.locator('summary', { hasText: 'As an exit' }).press('Enter')
    const rules = page.getByLabel('Rules')
    await rules.fill('[{')
    await page.getByText('1 thing to mend').waitFor()
    await proxy.focus()
    assert.equal(await rules.inputValue(), '[{', 'what was typed stays')
    assert.equal(await save.isDisabled(), true)
    await rules.fill('[]')
    await save.click()
    await page.getByText('It holds from now on').waitFor()
    const { fields, file } = await callAction(stage.socket, 'settings', {})
    assert.equal(fields.find(({ key }) => key === 'client.hops')?.inFile, 2)
    assert.match(readFileSync(file, 'utf8'), /^hops = 2$/m)
  })

  inBrowser(
    'an entry shows its server, its peer, where one’s own WireGuard connects, and what it may not write',
    async () => {
      const { net } = stage
      const entry = net.startEntry()
      const { listening, mtu } = await net.waitReady(false, entry)
      const page = await stage.visit(socketPath(entry.stateDir))
      await openPage(page, 'vpn')
      await page.getByText('A peer stands ready').waitFor()
      await page.getByRole('heading', { name: `${net.originHost}:${net.originUdpPort}` }).waitFor()
      await page
        .getByText(listening['wireguard']?.[0] ?? 'none')
        .first()
        .waitFor()
      await page.getByText(`${mtu} bytes`).waitFor()
      assert.deepEqual(await findBarriers(page), [])
      await page.setViewportSize({ width: 360, height: 740 })
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
      await openPage(page, 'settings')
      await page.getByText('Nothing can be changed here').waitFor()
      const { file } = await callAction(socketPath(entry.stateDir), 'settings', {})
      await page.getByText(`This node may not write ${file}.`).waitFor()
      assert.equal(await page.getByLabel('Proxy').isDisabled(), true)
      assert.deepEqual(await findBarriers(page), [])
      assert.equal(await page.evaluate('document.documentElement.scrollWidth'), 360)
      await page.context().close()
    },
  )
}
