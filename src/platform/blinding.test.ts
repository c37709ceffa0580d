import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setImmediate as nextTurn } from 'node:timers/promises'
import { blindSign, generateTokenKey, importTokenSecret, verifyBlindSignature } from '#crypto/blind-rsa.ts'
import { BlindingThread } from './blinding.ts'

const { publicKey, secret } = generateTokenKey()
const privateKey = importTokenSecret(secret.bytes)
const MESSAGE = Buffer.from('a token')

test('what the thread blinds and finalizes is a signature of the message', async () => {
  const thread = new BlindingThread()
  const { message, inverse } = await thread.blind(publicKey, MESSAGE)
  const signature = blindSign(privateKey, message) ?? assert.fail()
  const token = (await thread.finalize(publicKey, MESSAGE, signature, inverse)) ?? assert.fail()
  assert.ok(verifyBlindSignature(publicKey, MESSAGE, token))
  assert.equal(await thread.finalize(publicKey, MESSAGE, signature.toReversed(), inverse), undefined)
  await thread.close()
})

test('the thread that asked goes on meanwhile', async () => {
  const thread = new BlindingThread()
  let isDone = false
  const all = Promise.all(Array.from({ length: 8 }, () => thread.blind(publicKey, MESSAGE))).then(() => {
    isDone = true
  })
  let longestMs = 0
  for (let last = performance.now(); !isDone; ) {
    await nextTurn()
    const now = performance.now()
    longestMs = Math.max(longestMs, now - last)
    last = now
  }
  await all
  await thread.close()
  // Eight in a row would hold it for a fifth of a second; the bound leaves room for a machine that is busy.
  assert.ok(longestMs < 150, `${longestMs} ms`)
})

test('a thread that is closed rejects what it was asked, and starts again when it is asked again', async () => {
  const thread = new BlindingThread()
  const asked = assert.rejects(thread.blind(publicKey, MESSAGE), /ended/)
  await thread.close()
  await asked
  assert.equal((await thread.blind(publicKey, MESSAGE)).message.length, 256)
  await thread.close()
})
