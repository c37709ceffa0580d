import assert from 'node:assert/strict'
import test from 'node:test'
import { hasTool, skipUnless } from './skip.ts'

function recorder(): { skip(reason?: string): void; reasons: (string | undefined)[] } {
  const reasons: (string | undefined)[] = []
  return { skip: reason => void reasons.push(reason), reasons }
}

function withCi<T>(value: string | undefined, run: () => T): T {
  const before = process.env['CI']
  if (value === undefined) delete process.env['CI']
  else process.env['CI'] = value
  try {
    return run()
  } finally {
    if (before === undefined) delete process.env['CI']
    else process.env['CI'] = before
  }
}

test('a test goes on where its condition holds', () => {
  const t = recorder()
  assert.equal(skipUnless(t, true, 'never said', { tool: 'curl' }), false)
  assert.deepEqual(t.reasons, [])
})

test('a missing tool skips on a desk, with its reason, and fails in CI', () => {
  const t = recorder()
  assert.equal(
    withCi(undefined, () => skipUnless(t, false, 'curl is not installed', { tool: 'curl' })),
    true,
  )
  assert.deepEqual(t.reasons, ['curl is not installed'])
  assert.throws(
    () => withCi('true', () => skipUnless(t, false, 'curl is not installed', { tool: 'curl' })),
    /curl is not installed, and CI=true/,
  )
})

test('what no installation gives, such as root, is skipped in CI too', () => {
  const t = recorder()
  assert.equal(
    withCi('true', () => skipUnless(t, false, 'needs root')),
    true,
  )
  assert.deepEqual(t.reasons, ['needs root'])
})

test('tools are found by name', () => {
  assert.equal(hasTool('node'), true)
  assert.equal(hasTool('no-such-tool-9d1f'), false)
})
