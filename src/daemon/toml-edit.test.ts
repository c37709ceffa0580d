import assert from 'node:assert/strict'
import test from 'node:test'
import fc from 'fast-check'
import { parse } from 'smol-toml'
import { editToml, type TomlValue } from './toml-edit.ts'

const FILE = `# mine
[network] # found by
bootstrap = [
  "/ip4/192.0.2.1/tcp/1/p2p/A", # the first
  "/ip4/192.0.2.2/tcp/1/p2p/B",
]

[client]
# three are enough
hops = 3
proxy = "127.0.0.1:1080"

[exit]
rules = [
  { action = "allow", from_port = 80 },
]
`

test('one key is changed, and every other line stays as it was', () => {
  assert.equal(editToml(FILE, 'client', 'hops', 2), FILE.replace('hops = 3', 'hops = 2'))
})

test('a key that is not there is added at the end of its section', () => {
  const expected = FILE.replace('1080"\n', '1080"\nbind = "0.0.0.0"\n')
  assert.equal(editToml(FILE, 'client', 'bind', '0.0.0.0'), expected)
})

test('a section that is not there is added at the end of the file', () => {
  assert.equal(editToml(FILE, 'log', 'level', 'debug'), `${FILE}\n[log]\nlevel = "debug"\n`)
  assert.equal(editToml('', 'log', 'level', 'debug'), '[log]\nlevel = "debug"\n')
})

test('null takes a key out', () => {
  assert.equal(editToml(FILE, 'client', 'hops', null), FILE.replace('hops = 3\n', ''))
  assert.equal(editToml(FILE, 'log', 'level', null), FILE)
})

test('a value of several lines is replaced whole', () => {
  const text = editToml(FILE, 'network', 'bootstrap', [])
  assert.match(text, /^\[network\] # found by\nbootstrap = \[\]\n\n\[client\]/m)
  const rules = editToml(FILE, 'exit', 'rules', [{ action: 'deny' }])
  assert.match(rules, /\[exit\]\nrules = \[\{ action = "deny" \}\]\n$/)
})

test('a file of a form that cannot be kept is written anew with the same values', () => {
  const plain = (text: string) => JSON.parse(JSON.stringify(parse(text))) as unknown
  const dotted = 'client.hops = 3\nclient.proxy = "127.0.0.1:1"\n'
  assert.deepEqual(plain(editToml(dotted, 'client', 'hops', 2)), { client: { hops: 2, proxy: '127.0.0.1:1' } })
  const tables = '[[exit.rules]]\naction = "deny"\n'
  const expected = { exit: { rules: [{ action: 'deny' }], enabled: true } }
  assert.deepEqual(plain(editToml(tables, 'exit', 'enabled', true)), expected)
})

test('whatever is set is what is read back, and nothing else changes', () => {
  const leaf = fc.oneof(fc.boolean(), fc.integer(), fc.string({ unit: 'grapheme', maxLength: 20 }))
  const value = fc.oneof(leaf, fc.array(leaf, { maxLength: 4 }))
  const place = fc.constantFrom(['client', 'hops'], ['network', 'bootstrap'], ['exit', 'rules'], ['new', 'key'])
  const property = fc.property(place, value, ([section = '', key = ''], given) => {
    const plain = (text: string) => JSON.parse(JSON.stringify(parse(text))) as Record<string, Record<string, unknown>>
    const before = plain(FILE)
    const after = plain(editToml(FILE, section, key, given as TomlValue))
    assert.deepEqual(after, { ...before, [section]: { ...before[section], [key]: given } })
  })
  fc.assert(property, { seed: 20_261_121, numRuns: 500 })
})
