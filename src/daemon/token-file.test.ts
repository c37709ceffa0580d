import assert from 'node:assert/strict'
import { execFileSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { nodePermissions } from '#platform/linux/helper/daemon-user.ts'
import { TOKEN_BYTES } from '#wire/token.ts'
import { readTokens, writeTokens } from './token-file.ts'

test('a service writes credits to its state directory, with no more than services may, and says where it cannot', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-tokens-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const [state, file] = [path.join(directory, 'state'), path.join(directory, 'state', 'given')]
  mkdirSync(state)
  const module = JSON.stringify(new URL('./token-file.ts', import.meta.url).href)
  const code = `
    import { writeTokens } from ${module}
    writeTokens(${JSON.stringify(file)}, [new Uint8Array(${TOKEN_BYTES}).fill(7)])
    try { writeTokens(${JSON.stringify(path.join(directory, 'other'))}, []) } catch (error) { console.log(error.advice) }`
  const words = ['--no-warnings', ...nodePermissions(state), '--input-type=module', '--eval', code]
  const said = execFileSync(process.execPath, words, { encoding: 'utf8' })
  assert.equal(said, 'this node writes to its state directory alone: choose a file there\n')
  assert.deepEqual(readTokens(file), [new Uint8Array(TOKEN_BYTES).fill(7)])
  assert.equal(statSync(file).mode & 0o777, 0o600)
})

test('a file that is there is not written over', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-tokens-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'credits')
  writeTokens(file, [new Uint8Array(TOKEN_BYTES)])
  assert.throws(() => writeTokens(file, []), { code: 'WALLET_FAILED', advice: 'choose a file that is not there yet' })
  assert.equal(readTokens(file).length, 1)
})
