import assert from 'node:assert/strict'
import { existsSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { TOKEN_BYTES } from '#wire/token.ts'
import { readTokens } from '../token-file.ts'
import { existing, giveTo } from './credits-between.ts'
import type { Part } from './part.ts'

/** A wallet with so many credits, and a part that takes what it is given, unless the issuer is down. */
function world(t: TestContext, tokens: number) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-between-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'given')
  const state = { own: tokens, part: 0, isDown: false, file, modes: [] as number[] }
  const own = {
    balance: () => ({ tokens: state.own, withdrawing: 0, depositing: 0, doubtful: 0 }),
    takeIn: async () => 0,
    takeOut: async (count: number, write: (tokens: readonly Uint8Array[]) => void) => {
      write(new Array<Uint8Array>(count).fill(new Uint8Array(TOKEN_BYTES)))
      state.own -= count
      return count
    },
  }
  const call = async (_name: string, input: { file: string }) => {
    state.modes.push(statSync(input.file).mode & 0o777)
    if (state.isDown) throw new Error('the issuer is down')
    state.part += readTokens(input.file).length
    return { received: 0, tokens: state.part }
  }
  const part = { call } as unknown as Pick<Part, 'call'>
  return { state, give: (count: number) => giveTo(part, own, file, count) }
}

test('credits go over in a file for their owner alone, which is gone when they are there', async t => {
  const { state, give } = world(t, 10)
  assert.equal(await give(4), 4)
  assert.deepEqual([state.own, state.part, existsSync(state.file), state.modes], [6, 4, false, [0o600]])
})

test('more than there are is refused before anything moves', async t => {
  const { state, give } = world(t, 3)
  await assert.rejects(give(4), { code: 'WALLET_FAILED', message: 'give 4 credits: the wallet has 3' })
  assert.deepEqual([state.own, existsSync(state.file)], [3, false])
})

test('what could not be taken in is not lost: it goes over first the next time', async t => {
  const { state, give } = world(t, 10)
  state.isDown = true
  await assert.rejects(give(4), /down/)
  await assert.rejects(give(4), /down/, 'nothing is taken out above it')
  assert.deepEqual([state.own, state.part], [6, 0])
  state.isDown = false
  assert.equal(await give(2), 6)
  assert.deepEqual([state.own, existsSync(state.file)], [4, false])
})

test('without a wallet that is what is said', () => {
  assert.throws(() => existing(undefined), { code: 'WALLET_FAILED' })
})
