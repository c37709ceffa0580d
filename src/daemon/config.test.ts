import assert from 'node:assert/strict'
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import fc from 'fast-check'
import { HopliteError } from '#api/errors.ts'
import { configKeys, defaultConfig, loadConfig, parseConfig, parseHours, RULE_KEYS, withFlags } from './config.ts'

const DOCUMENT = readFileSync(new URL('../../docs/configuration.md', import.meta.url), 'utf8')

function refusal(text: string): string {
  try {
    parseConfig(text, 'hoplite.toml')
  } catch (error) {
    assert.ok(error instanceof HopliteError, String(error))
    assert.equal(error.code, 'CONFIG_INVALID')
    return error.message
  }
  return assert.fail(`accepted: ${text}`)
}

test('docs/configuration.md has every key with its default, and no other', () => {
  const documented = new Map<string, string>()
  let section = ''
  for (const line of DOCUMENT.split('\n')) {
    section = /^## \[([a-z]+)\]$/.exec(line)?.[1] ?? section
    const [, key, value] = /^\| `([a-z_]+)` \| `(.+?)` \| .+\|$/.exec(line) ?? []
    if (key !== undefined && value !== undefined) documented.set(`${section}.${key}`, value)
  }
  const expected = [...configKeys()].map(([key, value]) => [key, JSON.stringify(value)] as const)
  assert.deepEqual(Object.fromEntries(documented), Object.fromEntries(expected))
})

test('docs/configuration.md has every key of a rule', () => {
  const table = DOCUMENT.slice(DOCUMENT.indexOf('| key of a rule |'))
  const keys = [...table.slice(0, table.indexOf('\n\n')).matchAll(/^\| `([a-z_]+)` /gm)].map(([, key]) => key)
  assert.deepEqual(keys, RULE_KEYS)
})

test('the examples of docs/configuration.md are read', () => {
  const examples = [...DOCUMENT.matchAll(/```toml\n([\s\S]*?)```/g)].map(([, text = '']) =>
    parseConfig(text, 'example'),
  )
  assert.equal(examples.length, 3)
  assert.equal(examples[0]?.client.hops, 3)
  assert.equal(examples[1]?.exit.rules.length, 3)
  assert.equal(examples[2]?.peer.hours, '22-6')
})

test('an empty file is the defaults', () => {
  assert.deepEqual(parseConfig('', 'x'), defaultConfig())
  assert.deepEqual(loadConfig(undefined), defaultConfig())
})

test('an unknown key is refused with the nearest right one', () => {
  assert.match(refusal('[client]\nhop = 3'), /unknown key "client.hop", did you mean "client.hops"\?/)
  assert.match(refusal('[clint]\nhops = 3'), /unknown key "clint", did you mean "client"\?/)
  assert.match(refusal('[exit]\nrules = [{ acton = "deny" }]'), /did you mean "exit.rules.0.action"\?/)
  assert.match(refusal('[relay]\nhops = 3'), /unknown key "relay.hops", did you mean "client.hops"\?/)
  assert.match(refusal('[relay]\nqwertyuiop = 1'), /unknown key "relay.qwertyuiop"$/)
})

test('a wrong value names the file, the key, what was found and what is expected', () => {
  assert.equal(refusal('[client]\nhops = 9'), 'read hoplite.toml: client.hops: found 9, expected number to be <=5')
  assert.match(refusal('[client]\nhops = "3"'), /client.hops: found "3", expected number, received string$/)
  assert.match(refusal('[client]\nproxy = "here"'), /client.proxy: found "here", expected an address to listen on/)
  assert.match(refusal('[network]\nbootstrap = ["x"]'), /network.bootstrap.0: found "x", expected a multiaddr/)
  assert.match(refusal('[exit]\nrules = [{ action = "allow", from_port = 5, to_port = 4 }]'), /at most to_port/)
  assert.match(refusal('[relay]\noperator = "a\\u0007"'), /printable characters/)
})

test('hours are whole hours of a day, and not the same twice', () => {
  assert.deepEqual(parseHours('22-6'), { from: 22, to: 6 })
  assert.deepEqual(parseHours('08-24'), { from: 8, to: 24 })
  assert.equal(parseHours(''), undefined)
  assert.equal(parseConfig('[peer]\nhours = ""', 'x').peer.hours, '')
  for (const hours of ['8', '8-8', '08-8', '24-6', '8-25', '-1-5', '8 - 9', '8:30-9', '8-9 ', 'night', '1e1-12'])
    assert.match(
      refusal(`[peer]\nhours = "${hours}"`),
      /peer.hours: found ".*", expected whole hours of the day/,
      hours,
    )
})

test('limits of a peer are numbers that make sense', () => {
  assert.match(refusal('[peer]\nrate_kbit = 0'), /peer.rate_kbit: found 0, expected number to be >=64/)
  assert.match(refusal('[peer]\nvolume_mib_per_day = -1'), /peer.volume_mib_per_day: found -1/)
  assert.match(refusal('[peer]\nmax_clients = 1.5'), /peer.max_clients: found 1.5/)
  assert.match(refusal('[peer]\nrate = 5'), /unknown key "peer.rate"/)
  assert.match(refusal('[peer]\nvolume_per_day = 5'), /did you mean "peer.volume_mib_per_day"\?/)
  assert.match(refusal('[peer]\nallow_private = ["10.0.0.1"]'), /peer.allow_private.0: found "10.0.0.1"/)
})

test('tunnel networks are one of IPv4 and at most one of IPv6, of a size that has room; resolvers are of IPv4', () => {
  const networks = (value: string) => parseConfig(`[exit]\ntunnel_networks = ${value}`, 'x').exit.tunnel_networks
  assert.deepEqual(networks('["10.9.0.0/24"]'), ['10.9.0.0/24'])
  for (const wrong of ['[]', '["fd64::/64"]', '["10.9.0.0/24", "10.8.0.0/24"]', '["10.0.0.0/8"]', '["10.9.0.0/30"]']) {
    assert.throws(() => networks(wrong), /exit.tunnel_networks/, wrong)
  }
  assert.throws(() => parseConfig('[exit]\ndns = ["2001:db8::1"]', 'x'), /expected an IPv4 address/)
})

test('text that is no TOML is refused with its line', () => {
  assert.match(refusal('[client]\nhops = = 3'), /read hoplite.toml, line 2: /)
})

test('a flood of wrong keys and a very long key give a short message', () => {
  const flood = Array.from({ length: 5_000 }, (_, i) => `k${i} = 1`).join('\n')
  assert.match(refusal(flood), /and 4990 more$/)
  assert.ok(refusal(`${'k'.repeat(200_000)} = 1`).length < 200)
})

test('garbage is refused with a coded error, never otherwise', () => {
  const words = fc.constantFrom(
    ...configKeys().keys(),
    '[client]',
    '=',
    '"',
    '[',
    ']]',
    '{',
    '\n',
    '__proto__',
    '1e9',
    'nan',
  )
  const text = fc.oneof(
    fc.string({ unit: 'binary', maxLength: 200 }),
    fc.array(fc.oneof(words, fc.string({ maxLength: 5 })), { maxLength: 30 }).map(parts => parts.join('')),
  )
  const property = fc.property(text, garbage => {
    try {
      parseConfig(garbage, 'x')
    } catch (error) {
      assert.ok(error instanceof HopliteError, String(error))
    }
  })
  fc.assert(property, { seed: 20_261_121, numRuns: 2_000 })
})

test('a file that is missing, a directory, too long or no text is unreadable, and the message names it', t => {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-config-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const cases: [string, (file: string) => void, RegExp][] = [
    ['missing', () => {}, /ENOENT$/],
    ['directory', file => mkdirSync(file), /it is not a file$/],
    ['long', file => writeFileSync(file, '#'.repeat(300_000)), /it has 300000 bytes, at most 262144 are read$/],
    ['binary', file => writeFileSync(file, Buffer.from([0xff, 0xfe, 0x00])), /not valid/],
  ]
  for (const [name, make, message] of cases) {
    const file = path.join(directory, name)
    make(file)
    const isRight = (error: HopliteError) =>
      error.code === 'CONFIG_UNREADABLE' && error.message.startsWith(`read ${file}: `) && message.test(error.message)
    assert.throws(() => loadConfig(file), isRight, name)
  }
})

test('flags win over the file, and are checked like it', () => {
  const config = parseConfig('[client]\nhops = 2\n[exit]\nenabled = true', 'x')
  assert.deepEqual(withFlags(config, {}), config)
  const changed = withFlags(config, { hops: 4, proxy: '127.0.0.1:0', exit: true })
  assert.deepEqual([changed.client.hops, changed.client.proxy, changed.exit.enabled], [4, '127.0.0.1:0', true])
  assert.throws(() => withFlags(config, { proxy: 'here' }), /read the command line: client.proxy: found "here"/)
})
