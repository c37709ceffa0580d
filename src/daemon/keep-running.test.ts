import assert from 'node:assert/strict'
import test from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { defaultConfig } from './config.ts'
import { keepRunning } from './keep-running.ts'
import { openLog } from './log.ts'
import { dataPlaneFailure, type RunOptions, untilAborted } from './node.ts'

const QUIET = { isTTY: false, write: () => true } as unknown as NodeJS.WriteStream

/** Runs a node that fails as often as `script` says, each time after so many milliseconds; then it ends. */
async function play(script: readonly number[], canBeOff: boolean, signal = new AbortController().signal) {
  let now = 0
  const starts: { readonly at: number; readonly isOff: boolean; readonly problem?: string }[] = []
  const failAfter = [...script]
  const main = async ({ startsOff = false, problem }: RunOptions) => {
    starts.push({ at: now, isOff: startsOff, ...(problem && { problem: problem.message }) })
    const ms = failAfter.shift()
    if (ms === undefined) return
    now += ms
    throw dataPlaneFailure(new Error('boom'))
  }
  const options = { stateDir: '/nowhere', signal, log: openLog(defaultConfig(), 'test', QUIET) }
  const wait = async (ms: number) => void (now += ms)
  const result = keepRunning(main, options, { canBeOff, now: () => now, jitter: () => 0.5, wait })
  const error = await result.then(
    () => undefined,
    (error: unknown) => error,
  )
  return { starts, error }
}

test('a node whose data plane failed starts again, later each time', async () => {
  const { starts, error } = await play([1_000, 1_000, 1_000], false)
  assert.equal(error, undefined)
  assert.deepEqual(
    starts.map(({ at }) => at),
    [0, 1_200, 2_600, 4_400],
  )
})

test('a client that fails again and again stays, switched off, and says why', async () => {
  const { starts } = await play([10, 10, 10, 10, 10], true)
  assert.deepEqual(
    starts.map(({ isOff }) => isOff),
    [false, false, false, false, false, true],
  )
  assert.equal(starts.at(-1)?.problem, 'move packets: boom')
})

test('a relay that fails again and again ends: whoever watches it decides', async () => {
  const { starts, error } = await play([10, 10, 10, 10, 10, 10, 10], false)
  assert.equal(starts.length, 5)
  assert.equal((error as HopliteError).code, 'DATA_PLANE_FAILED')
})

test('failures far apart are no crash loop', async () => {
  const { starts, error } = await play(
    Array.from({ length: 20 }, () => 60_000),
    true,
  )
  assert.equal(error, undefined)
  assert.ok(starts.every(({ isOff }) => !isOff))
})

test('another failure is thrown at once, and none is waited for after the end', async () => {
  const options = { stateDir: '/nowhere', log: openLog(defaultConfig(), 'test', QUIET) }
  const how = { canBeOff: true, now: () => 0, jitter: () => 0, wait: async () => {} }
  const taken = new HopliteError('ADDRESS_IN_USE', 'listen', 'choose another')
  const fail = async () => Promise.reject(taken)
  await assert.rejects(keepRunning(fail, { ...options, signal: new AbortController().signal }, how), taken)
  await keepRunning(fail, { ...options, signal: AbortSignal.abort() }, how)
})

test('a node waits for its end, and a failure of its own is that end', async () => {
  await untilAborted(AbortSignal.abort())
  const stop = new AbortController()
  const waiting = untilAborted(AbortSignal.any([stop.signal]))
  stop.abort(dataPlaneFailure(new Error('boom')))
  await assert.rejects(waiting, { code: 'DATA_PLANE_FAILED' })
})
