import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { appendFileSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { fileURLToPath } from 'node:url'
import { waitFor } from '#lab/testnet.ts'

const MAIN = fileURLToPath(new URL('../main.ts', import.meta.url))
const line = (event: string, more = {}) =>
  `${JSON.stringify({ time: '2026-03-01T07:41:02.512Z', level: 'warn', component: 'client', event, ...more })}\n`

test('logs -f goes on with each new line, also when the file was emptied or taken away, until it is told to stop', async t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-logs-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const file = path.join(stateDir, 'daemon.log')
  writeFileSync(file, line('long ago') + line('lately', { reason: 'a \u001b[31m trick' }))
  const child = spawn(process.execPath, ['--no-warnings', MAIN, 'logs', '-f', '-n', '1', '--state-dir', stateDir])
  t.after(() => child.kill('SIGKILL'))
  let said = ''
  child.stdout.on('data', chunk => (said += String(chunk)))
  const says = (text: string) => waitFor(async () => said.includes(text) || undefined, text)
  await says('client: lately reason=a \uFFFD[31m trick')
  assert.doesNotMatch(said, /long ago/)

  const umlaut = Buffer.from(line('next', { reason: 'Ünder' }))
  const at = umlaut.indexOf('Ü') + 1
  appendFileSync(file, umlaut.subarray(0, at))
  await new Promise(resolve => setTimeout(resolve, 600))
  appendFileSync(file, umlaut.subarray(at))
  await says('client: next reason=Ünder')

  truncateSync(file)
  await new Promise(resolve => setTimeout(resolve, 600))
  appendFileSync(file, line('after rotation'))
  await says('client: after rotation')
  rmSync(file)
  await new Promise(resolve => setTimeout(resolve, 600))
  writeFileSync(file, line('begun anew'))
  await says('client: begun anew')

  const ended = new Promise(resolve => child.once('exit', resolve))
  child.kill('SIGINT')
  assert.equal(await ended, 0)
})
