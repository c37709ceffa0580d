import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { ACTIONS } from '#api/table.ts'
import { configKeys, loadConfig, withFlags } from './config.ts'
import { Settings } from './settings.ts'

function make(t: TestContext, text?: string) {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-settings-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, 'below', 'hoplite.toml')
  if (text === undefined) return { file, settings: new Settings(loadConfig(undefined), file) }
  const there = path.join(directory, 'hoplite.toml')
  writeFileSync(there, text)
  return { file: there, settings: new Settings(loadConfig(there), there) }
}

test('every key is described: its value, its default, what it must be and what it means', t => {
  const { settings } = make(t, '[client]\nhops = 2\n')
  const described = settings.describe()
  assert.deepEqual(ACTIONS.settings.output.parse(described), described)
  assert.deepEqual(
    described.fields.map(({ key }) => key),
    [...configKeys().keys()],
  )
  for (const { key, meaning } of described.fields) assert.ok(meaning.length > 10, `${key} has a meaning`)
  const field = (name: string) => described.fields.find(({ key }) => key === name)
  const { meaning: _, ...hops } = field('client.hops') ?? { meaning: '' }
  assert.deepEqual(hops, { key: 'client.hops', kind: 'number', min: 1, max: 5, default: 3, value: 2, inFile: 2 })
  assert.deepEqual(field('log.level')?.choices, ['error', 'warn', 'info', 'debug'])
  const kinds = ['exit.enabled', 'network.bootstrap', 'exit.rules', 'metrics.listen'].map(name => field(name)?.kind)
  assert.deepEqual(kinds, ['boolean', 'list', 'structure', 'text'])
})

test('what would be wrong is said by key, and nothing is written', t => {
  const { settings, file } = make(t, '[client]\nhops = 2\n')
  const wrong = { 'client.hops': 9, 'client.proxy': 'here', 'relay.family': ['x'] }
  const problems = settings.check(wrong)
  assert.deepEqual(
    problems.map(({ key }) => key),
    ['client.hops', 'client.proxy', 'relay.family'],
  )
  assert.match(problems[1]?.message ?? '', /^found "here", expected an address to listen on/)
  assert.deepEqual(settings.check({ 'client.speed': 1 }), [{ key: 'client.speed', message: 'there is no such key' }])
  assert.equal(settings.save(wrong).problems.length, 3)
  assert.equal(readFileSync(file, 'utf8'), '[client]\nhops = 2\n')
})

test('what is right is written, comments stay, and the file is read as it was meant', t => {
  const { settings, file } = make(t, '# mine\n[client]\nhops = 2\n')
  assert.deepEqual(settings.save({ 'client.hops': 4, 'log.level': 'debug' }).problems, [])
  assert.equal(readFileSync(file, 'utf8'), '# mine\n[client]\nhops = 4\n\n[log]\nlevel = "debug"\n')
  assert.equal(loadConfig(file).client.hops, 4)
  settings.save({ 'client.hops': null })
  assert.equal(loadConfig(file).client.hops, 3)
})

test('without a file one is made, with its folder', t => {
  const { settings, file } = make(t)
  assert.equal(settings.describe().exists, false)
  settings.save({ 'client.hops': 1 })
  assert.equal(loadConfig(file).client.hops, 1)
})

test('a file that became garbage meanwhile is left alone', t => {
  const { settings, file } = make(t, '')
  writeFileSync(file, 'garbage')
  assert.throws(() => settings.save({ 'client.hops': 1 }), HopliteError)
  assert.equal(readFileSync(file, 'utf8'), 'garbage')
})

test('what changed in the file holds at once where it can, and is named where it cannot', t => {
  const { file } = make(t, '[client]\nhops = 2\n')
  const held: unknown[] = []
  // Flags win over the file: two hops stand there, and four are in use.
  const config = withFlags(loadConfig(file), { hops: 4 })
  const settings = new Settings(config, file, { 'log.level': ({ log }) => held.push(log.level) })
  assert.deepEqual(settings.reload(), { applied: [], later: [] })
  writeFileSync(file, '[client]\nhops = 1\n[log]\nlevel = "debug"\n')
  assert.deepEqual(settings.reload(), { applied: ['log.level'], later: ['client.hops'] })
  assert.deepEqual(held, ['debug'])
  const value = (name: string) => settings.describe().fields.find(({ key }) => key === name)?.value
  assert.deepEqual([value('log.level'), value('client.hops')], ['debug', 4])
  writeFileSync(file, 'hops = ')
  assert.throws(() => settings.reload(), { code: 'CONFIG_INVALID' })
  assert.deepEqual(held, ['debug'])
})
