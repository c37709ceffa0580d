import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import test from 'node:test'
import { ERROR_CODES } from '#api/errors.ts'
import { EXIT, exitCodeOf } from './exit-codes.ts'

test('docs/exit-codes.md has every exit code, and no other', () => {
  const text = readFileSync(new URL('../../docs/exit-codes.md', import.meta.url), 'utf8')
  const documented = [...text.matchAll(/^\| (\d+) \| `([A-Za-z]+)` \|/gm)].map(([, code, name]) => [name, Number(code)])
  assert.deepEqual(Object.fromEntries(documented), { ...EXIT })
})

test('docs/errors.md has every error code with its exit code, and no other', () => {
  const text = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  const documented = [...text.matchAll(/^\| `([A-Z_]+)` \| (\d+) \| [^|]+ \| [^|]+ \|$/gm)]
  assert.deepEqual(
    documented.map(([, code, exit]) => [code, Number(exit)]),
    ERROR_CODES.map(code => [code, exitCodeOf(code)]),
  )
})
