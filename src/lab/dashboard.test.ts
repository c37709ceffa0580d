// The dashboard in a real browser, against real nodes in a real network, by a person who never opens a terminal. One network and
// one browser serve all of it: see dashboard/.

import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { defaultConfig } from '#daemon/config.ts'
import { loadBundle } from '#web/bundle.ts'
import { texts } from '#web/texts.ts'
import { hasBrowser } from './browser.ts'
import { testCredits } from './dashboard/credits.ts'
import { testDevices } from './dashboard/devices.ts'
import { testFrame } from './dashboard/frame.ts'
import { testRoute } from './dashboard/route.ts'
import { testSettings } from './dashboard/settings.ts'
import { testShare } from './dashboard/share.ts'
import { Stage } from './dashboard/stage.ts'
import { testVpn } from './dashboard/vpn.ts'

const MAX_SCRIPT_BYTES = 100_000
/** Each test has two minutes; all of them take less than one where nothing else runs. */
const SUITE_MS = 600_000

test('the scripts of the dashboard have less than 100 kB, compressed', async () => {
  const files = [...(await loadBundle())].filter(([name]) => name.endsWith('.js'))
  const bytes = files.reduce((sum, [, { bytes }]) => sum + gzipSync(bytes).length, 0)
  assert.ok(files.length > 0 && bytes < MAX_SCRIPT_BYTES, `${bytes} bytes`)
})

test('every section of the configuration has a heading among the settings', () => {
  assert.deepEqual(Object.keys(texts.settings.sections).toSorted(), Object.keys(defaultConfig()).toSorted())
})

const reason = process.platform === 'linux' ? undefined : 'all of 127/8 is loopback only on Linux'

describe('the dashboard in a browser', { skip: reason, timeout: SUITE_MS }, () => {
  const stage = new Stage()
  before(() => (hasBrowser ? stage.start() : undefined))
  after(() => stage.stop())

  testRoute(stage)
  testCredits(stage)
  testVpn(stage)
  testShare(stage)
  testSettings(stage)
  testDevices(stage)
  testFrame(stage)
})
