import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Worker } from 'node:worker_threads'
import { deathOf, OutOfMemoryError } from './start-worker.ts'

test('a thread that dies of its memory says so in plain words; what else it dies of stays as it is', async () => {
  const greedy = new Worker('const held = []; for (;;) held.push(new Array(10_000).fill(held.length))', {
    eval: true,
    resourceLimits: { maxOldGenerationSizeMb: 8, maxYoungGenerationSizeMb: 1 },
  })
  const cause = await new Promise(resolve => greedy.once('error', resolve))
  const death = deathOf(cause)
  assert.ok(death instanceof OutOfMemoryError)
  assert.equal(death.message, 'it had all the memory that it may, 192 MiB')
  const bug = new TypeError('told to crash')
  assert.equal(deathOf(bug), bug)
  assert.equal(deathOf('words').message, 'words')
})
