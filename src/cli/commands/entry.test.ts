import assert from 'node:assert/strict'
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { inspect } from 'node:util'
import { HopliteError } from '#api/errors.ts'
import { type EntryOptions, entry } from './entry.ts'

function temporary(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-entry-command-'))
  t.after(() => rmSync(directory, { recursive: true }))
  return directory
}

/** What an entry that must not begin is refused with. */
async function refusal(file: string | undefined, options: Partial<EntryOptions>): Promise<HopliteError> {
  const error = await entry(file, { peers: 2, killSwitch: true, ...options }, false).catch((error: unknown) => error)
  return error instanceof HopliteError ? error : assert.fail(`not refused: ${inspect(error)}`)
}

test('a server that is no host and port is refused before anything is begun', async t => {
  const stateDir = temporary(t)
  for (const to of [
    '',
    'vpn',
    'vpn:0',
    'vpn:65536',
    'a b:1',
    '[2001:db8::1]',
    '2001:db8::1:1',
    '0x7f.1:1',
    'vpn:1:1',
  ]) {
    const { code, message } = await refusal(undefined, { stateDir, listen: '127.0.0.1:0', to })
    assert.equal(code, 'REQUEST_INVALID')
    assert.equal(message, `read --to: found "${to}"`)
  }
  assert.deepEqual(readdirSync(stateDir), [])
})

test('a file is named or a server, and not both', async t => {
  const stateDir = temporary(t)
  const file = path.join(stateDir, 'wg.conf')
  writeFileSync(file, '')
  for (const [given, options] of [
    [undefined, {}],
    [undefined, { listen: '127.0.0.1:0' }],
    [undefined, { to: '192.0.2.1:1' }],
    [file, { listen: '127.0.0.1:0', to: '192.0.2.1:1' }],
  ] as const)
    assert.match((await refusal(given, { stateDir, ...options })).message, /neither a file nor both --listen and --to/)
  assert.match((await refusal(undefined, { stateDir, listen: 'here', to: '192.0.2.1:1' })).message, /"here" is none/)
})

test('of a file that cannot be used no word is in the refusal', async t => {
  const directory = temporary(t)
  const secret = 'hunter2hunter2'
  const text = `[Interface]\nPrivateKey = ${secret}\n`
  const contents = { utf16: Buffer.from(text, 'utf16le'), key: Buffer.from(text), text: Buffer.from(secret) }
  const files = Object.entries(contents).map(([name, content]) => {
    const file = path.join(directory, `${name}.conf`)
    writeFileSync(file, content)
    return file
  })
  for (const file of [...files, directory, path.join(directory, 'none.conf')]) {
    const { code, message, advice } = await refusal(file, { stateDir: directory })
    assert.equal(code, 'ENTRY_FILE_INVALID')
    assert.doesNotMatch(`${message}${advice}`.replaceAll('\0', ''), /hunter2|PrivateKey =/)
  }
})
