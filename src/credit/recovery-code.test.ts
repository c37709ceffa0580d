import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { newRecoveryCode, readRecoveryCode } from './recovery-code.ts'

test('a recovery code is read as it was typed, with its groups or without, and with what is misread', () => {
  const code = newRecoveryCode(seededRandom('1'))
  assert.match(code, /^([0-9A-HJKMNP-TV-Z]{4}-){7}[0-9A-HJKMNP-TV-Z]{4}$/)
  const read = readRecoveryCode(code)
  assert.equal(read.length, 32)
  assert.equal(readRecoveryCode(` ${code.toLowerCase().replaceAll('-', ' ')}\n`), read)
  assert.equal(readRecoveryCode(code.replaceAll('0', 'o').replaceAll('1', 'l')), read)
  assert.notEqual(newRecoveryCode(seededRandom('2')), code)
})
