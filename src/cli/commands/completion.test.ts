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
  assert.deepEqual(await complete('up', '--config', 'status', '--sp'), ['--spend-limit'], 'a value is no command')
  assert.deepEqual(await complete('devices', 'rename', 'laptop', '--st'), ['--state-dir'], 'behind an argument')
  assert.deepEqual(await complete('call', 'token.create', '--permission', ''), ['read', 'write'])
  assert.deepEqual(await complete('install-service', 're'), ['relay'])
  assert.deepEqual(await complete('call', 'entry.start', '--form', 'l'), ['listen'])
  assert.deepEqual(await complete('up', '--config', ''), [''], 'files, as the shell knows them')
})

test('zsh reads its script, and completes by it', async t => {
  if (skipUnless(t, hasTool('zsh'), 'zsh is not installed', { tool: 'zsh' })) return
  const complete = async (...given: string[]) => {
    const list = ['hoplite', ...given].map(word => `'${word}'`).join(' ')
    const stubs =
      'compdef() { :; }; _files() { print FILES; }; _describe() { (( $#candidates )) && print -rl -- $candidates; }'
    const text = `${stubs}\n${await script('zsh')}\nwords=(${list}); CURRENT=${given.length + 1}; _hoplite`
    return (await run('zsh', ['-f', '-c', text])).stdout.trim().split('\n')
  }
  assert.ok((await complete('')).includes('status:show what the node is doing'))
  assert.ok((await complete('up', '--config', 'status', '')).some(line => line.startsWith('--spend-limit:')))
  assert.deepEqual(await complete('call', 'token.create', '--permission', ''), ['read', 'write'])
  assert.deepEqual(await complete('up', '--config', ''), ['FILES'])
})

test('fish reads its script, and completes by it', async t => {
  if (skipUnless(t, hasTool('fish'), 'fish is not installed', { tool: 'fish' })) return
  const complete = async (line: string) => {
    const text = `${await script('fish')}\ncomplete -C '${line}'`
    const { stdout } = await run('fish', ['--no-config', '-c', text], { env: { ...process.env, HOME: '/nonexistent' } })
    return stdout
      .trim()
      .split('\n')
      .map(found => found.split('\t')[0])
  }
  assert.deepEqual(await complete('hoplite st'), ['status'])
  assert.deepEqual(await complete('hoplite call token.c'), ['token.create'])
  assert.deepEqual(await complete('hoplite up --config status --spe'), ['--spend-limit'])
  assert.deepEqual(await complete('hoplite call token.create --permission '), ['read', 'write'])
  assert.deepEqual(await complete('hoplite devices rename laptop --state'), ['--state-dir'])
})

test('zsh and fish have the same words, and the hidden daemon is in none', async () => {
  const [bash, zsh, fish] = await Promise.all(['bash', 'zsh', 'fish'].map(script))
  for (const text of [bash, zsh, fish]) {
    for (const word of ['settings.save', 'newRoute', 'logs']) assert.match(text ?? '', new RegExp(word))
    assert.doesNotMatch(text ?? '', /run the client in the foreground/)
  }
  assert.match(zsh ?? '', /^#compdef hoplite/)
  assert.match(fish ?? '', /^complete -c hoplite -n "__hoplite_at 'up'" -l hops -r -d /m)
})
