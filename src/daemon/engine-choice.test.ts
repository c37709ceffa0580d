import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { skipUnless } from '#lab/skip.ts'

const SCRIPT = `
  import { startEngine } from ${JSON.stringify(new URL('./node.ts', import.meta.url))}
  import { defaultConfig } from ${JSON.stringify(new URL('./config.ts', import.meta.url))}
  const lines = []
  const log = new Proxy({}, { get: (_, level) => (event, fields) => lines.push([level, event, fields]) })
  const listen = { host: '127.0.0.1', port: 0 }
  const { engine } = await startEngine(listen, { config: defaultConfig(), log }, () => {}, () => {})
  await engine.close()
  console.log(JSON.stringify(lines))
`

test('where the system may not be called the portable engine is taken, and one line of the log says why', t => {
  if (skipUnless(t, process.platform === 'linux', 'elsewhere there is but the portable engine')) return
  // All that it needs but --allow-ffi.
  const rights = ['--permission', '--allow-fs-read=*', '--allow-worker', '--allow-addons', '--allow-net']
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-engine-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  // Workers are started with the same flags, which --eval has others than a file.
  const file = path.join(directory, 'start.mjs')
  writeFileSync(file, SCRIPT)
  const { stdout, stderr } = spawnSync(process.execPath, ['--no-warnings', ...rights, file], { encoding: 'utf8' })
  const lines = JSON.parse(stdout || '[]')
  assert.equal(lines.length, 1, stderr)
  const [level, event, { reason }] = lines[0]
  assert.deepEqual([level, event], ['warn', 'the portable engine is used'])
  assert.match(reason.text, /node:ffi/)
})
