import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { TOKEN_BYTES } from '#wire/token.ts'
import { defaultConfig } from '../config.ts'
import { openLog } from '../log.ts'
import { writeTokens } from '../token-file.ts'
import type { Part } from './part.ts'
import { PartsFile } from './parts-file.ts'
import { ShareDesk } from './share-desk.ts'

const silent = openLog(defaultConfig(), 'test', { isTTY: false, write: () => true } as unknown as NodeJS.WriteStream)

/** A part that earned so many credits, and a wallet that takes them in, unless the issuer is down. */
function desk(t: TestContext, earned: number) {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-share-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const world = { earned, wallet: 0, isDown: false, stateDir }
  const call = async (name: string, input: { count: number; file: string }) => {
    if (name === 'earnings') return { account: world.earned, tokens: 0, queued: 0, redeemed: 0, refused: 0, days: [] }
    if (name === 'sendCredits') {
      writeTokens(input.file, new Array(input.count).fill(new Uint8Array(TOKEN_BYTES)))
      world.earned -= input.count
      return { sent: input.count, tokens: 0 }
    }
    return { handedIn: 0 }
  }
  const wallet = {
    takeOut: async () => 0,
    balance: () => ({ tokens: world.wallet, withdrawing: 0, depositing: 0, doubtful: 0 }),
    takeIn: async (tokens: readonly Uint8Array[]) => {
      if (world.isDown) throw new Error('the issuer is down')
      world.wallet += tokens.length
      return tokens.length
    },
  }
  const share = new ShareDesk({
    part: { call, ask: async () => undefined, state: 'running', order: undefined } as unknown as Part,
    kept: new PartsFile(stateDir, silent),
    stateDir,
    config: defaultConfig(),
    configFile: undefined,
    wallet: () => wallet,
    assertFree: () => {},
  })
  return { world, collect: () => share.handlers['share.collect']() }
}

test('what was earned comes into the wallet, and no file of it is left', async t => {
  const { world, collect } = desk(t, 7)
  assert.deepEqual(await collect(), { collected: 7, tokens: 7 })
  assert.ok(!existsSync(path.join(world.stateDir, 'collected')))
  assert.deepEqual(await collect(), { collected: 0, tokens: 7 })
})

test('credits that were on their way when the issuer failed are in the file, and come in the next time', async t => {
  const { world, collect } = desk(t, 7)
  world.isDown = true
  await assert.rejects(collect())
  assert.deepEqual([world.earned, world.wallet], [0, 0])
  await assert.rejects(collect(), /down/, 'they are not overwritten')
  world.isDown = false
  world.earned = 2
  assert.deepEqual(await collect(), { collected: 9, tokens: 9 })
})
