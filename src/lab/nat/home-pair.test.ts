// The path machine on real sockets behind real routers: two pairs of homes of the many of lab `nat-matrix`.

import assert from 'node:assert/strict'
import { once } from 'node:events'
import { test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { missingForNamespaces, Namespaces } from '../netns.ts'
import { skipUnless } from '../skip.ts'
import { addHome, BLOCKED, PORT_RESTRICTED, SYMMETRIC } from './home.ts'
import { HomePair } from './home-pair.ts'

const RELAY = fileURLToPath(new URL('./flow-relay.ts', import.meta.url))
const RELAYS = ['20.0.0.1', '20.0.0.2']

test('homes behind nftables meet: symmetric and port-restricted directly, one without UDP by a relay', async t => {
  const missing = missingForNamespaces('nft', 'sysctl')
  if (skipUnless(t, missing === undefined, `needs ${missing}`, { tool: missing ?? '' })) return
  await using lab = new Namespaces()
  const internet = await lab.switch('inet')
  for (const [i, address] of RELAYS.entries()) {
    const host = await lab.host(`s${i}`)
    await lab.plug(host, internet, `${address}/8`)
    const relay = host.start(process.execPath, [RELAY, address], { stdio: ['ignore', 'pipe', 'ignore'] })
    await once(relay.stdout as NodeJS.ReadableStream, 'data')
  }
  const symmetric = await addHome(lab, internet, 1, SYMMETRIC)
  const restricted = await addHome(lab, internet, 2, PORT_RESTRICTED)
  const blocked = await addHome(lab, internet, 3, BLOCKED)
  const direct = await new HomePair(symmetric, restricted, { expected: 'direct', relays: RELAYS }).run()
  assert.equal(direct.outcome, 'direct')
  const relayed = await new HomePair(blocked, restricted, { expected: 'relayed', relays: RELAYS }).run()
  assert.equal(relayed.outcome, 'relayed')
})
