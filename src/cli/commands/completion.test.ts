import assert from 'node:assert/strict'
import { execFile } from 'node:child_process'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { hasTool, skipUnless } from '#lab/skip.ts'

const run = promisify(execFile)
const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))

async function script(shell: string): Promise<string> {
  return (await run(process.execPath, ['--no-warnings', MAIN, 'completion', shell])).stdout
}

test('bash completes commands, their flags, and the actions of the API', async t => {
  if (skipUnless(t, hasTool('bash'), 'bash is not installed', { tool: 'bash' })) return
  const complete = async (...words: string[]) => {
    const list = words.map(word => `'${word}'`).join(' ')
    const text = `${await script('bash')}\nCOMP_WORDS=(hoplite ${list}); COMP_CWORD=${words.length}; _hoplite; echo "\${COMPREPLY[*]}"`
    return (await run('bash', ['-c', text])).stdout.trim().split(' ')
  }
  assert.deepEqual(await complete('st'), ['status'])
  assert.deepEqual(await complete('up', '--ho'), ['--hops'])
  assert.deepEqual(await complete('call', 'token.c'), ['token.create'])
  assert.deepEqual(await complete('call', 'setRoute', '--e'), ['--exit'])
})

test('zsh and fish have the same words, and the hidden daemon is in none', async () => {
  const [bash, zsh, fish] = await Promise.all(['bash', 'zsh', 'fish'].map(script))
  for (const text of [bash, zsh, fish]) {
    for (const word of ['settings.save', 'newRoute', 'logs']) assert.match(text ?? '', new RegExp(word))
    assert.doesNotMatch(text ?? '', /run the client in the foreground/)
  }
  assert.match(zsh ?? '', /^#compdef hoplite/)
  assert.match(fish ?? '', /^complete -c hoplite -f -n "__hoplite_at 'up'" -l hops -d /m)
})
