import assert from 'node:assert/strict'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { seededRandom } from '#crypto/random.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { type IpPrefix, parsePrefix } from '#wire/ip-prefix.ts'
import { parseWgQuick } from '#wire/wg-quick.ts'
import { type PhoneServer, Phones } from './phones.ts'

const SERVER: PhoneServer = {
  publicKey: x25519FromPrivate(new Uint8Array(32).fill(3)).publicKey,
  addresses: { ipv6: 'fd68:6f70:6c69::1', ipv4: '100.64.0.1' },
  endpoint: { host: 'home.example.org', port: 41_000 },
  ...{ generation: 1, reaches: [], networks: [], dnsServers: [] },
}
const server = () => SERVER

const plain = (phones: Phones) =>
  phones.list().map(({ publicKey, presharedKey, ...rest }) => [[...publicKey], [...presharedKey], rest])

test('the file of a phone is one that WireGuard takes, its key is its own, and this device keeps no private key', t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-phones-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const phones = new Phones(stateDir, seededRandom('phones'))
  const file = phones.add('pocket', server) ?? ''
  const read = parseWgQuick(Buffer.from(file))
  assert.ok(!('error' in read))
  assert.deepEqual(read.notes, [])
  const privateKey = /PrivateKey = (\S+)/.exec(file)?.[1] ?? ''
  const { publicKey } = x25519FromPrivate(Buffer.from(privateKey, 'base64'))
  assert.deepEqual(Buffer.from(phones.list()[0]?.publicKey ?? []), Buffer.from(publicKey))
  assert.match(file, /AllowedIPs = fd68:6f70:6c69::1\/128, 100\.64\.0\.1\/32/)
  assert.match(file, /Endpoint = home\.example\.org:41000/)
  const kept = path.join(stateDir, 'phones.state')
  assert.doesNotMatch(readFileSync(kept, 'utf8'), new RegExp(privateKey.replace(/[+/=]/g, '.')))
  if (process.platform !== 'win32') assert.equal(statSync(kept).mode & 0o777, 0o600)
  assert.equal(JSON.stringify(plain(new Phones(stateDir, seededRandom('x')))), JSON.stringify(plain(phones)))
})

test('a phone is removed by its name; there are 16; a damaged file is not overwritten', t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-phones-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const phones = new Phones(stateDir, seededRandom('phones'))
  const made = Array.from({ length: 20 }, (_, i) => phones.add(`phone-${i}`, server)).filter(Boolean).length
  assert.equal(made, 16)
  assert.ok(phones.remove('phone-3'))
  assert.equal(phones.remove('phone-3'), undefined)
  assert.equal(phones.list().length, 15)
  const file = path.join(stateDir, 'phones.state')
  for (const text of ['cut off', '[{}]', '']) {
    writeFileSync(file, text)
    assert.throws(() => new Phones(stateDir, seededRandom('x')), HopliteError)
    assert.equal(readFileSync(file, 'utf8'), text)
  }
})

test('what a phone may reach is in its file; another file has other keys and the same addresses', t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-phones-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const phones = new Phones(stateDir, seededRandom('phones'))
  const prefix = (text: string) => parsePrefix(text) as IpPrefix
  const networks = ['fd68:6f70:6c69::/48', '192.168.1.0/24'].map(prefix)
  const file = phones.add('pocket', () => ({ ...SERVER, reaches: ['devices', '192.168.1.0/24'], networks })) ?? ''
  assert.match(file, /AllowedIPs = 100\.64\.0\.1\/32, fd68:6f70:6c69::\/48, 192\.168\.1\.0\/24\n/)
  assert.doesNotMatch(file, /DNS/)
  const [before] = phones.list()
  assert.ok(before)
  const everything = ['0.0.0.0/0', '::/0'].map(prefix)
  const more = { reaches: ['internet'], networks: everything, dnsServers: ['100.64.0.1'], generation: 2 }
  const again = phones.renew(before, () => ({ ...SERVER, ...more }))
  assert.match(again, /AllowedIPs = 0\.0\.0\.0\/0, ::\/0\n/)
  assert.match(again, /DNS = 100\.64\.0\.1\n/)
  const [after] = phones.list()
  assert.deepEqual([after?.id, after?.addresses], [before.id, before.addresses])
  assert.notDeepEqual(after?.publicKey, before.publicKey)
  assert.notDeepEqual(after?.presharedKey, before.presharedKey)
  assert.deepEqual(after?.file, { endpoint: 'home.example.org:41000', generation: 2, reaches: ['internet'] })
  assert.deepEqual(plain(new Phones(stateDir, seededRandom('x'))), plain(phones))
  const refusal = () => {
    throw new HopliteError('REQUEST_INVALID', 'no', 'no')
  }
  assert.throws(() => phones.renew(before, refusal), HopliteError)
  assert.throws(() => phones.add('other', refusal), HopliteError)
  assert.deepEqual(phones.list(), [after], 'what fails changes nothing')
})

test('phones of a version that kept less are read', t => {
  const stateDir = mkdtempSync(path.join(tmpdir(), 'hoplite-phones-'))
  t.after(() => rmSync(stateDir, { recursive: true }))
  const key = Buffer.alloc(32, 7).toString('base64')
  const old = [{ id: 'ab'.repeat(16), name: 'pocket', publicKey: key, presharedKey: key }]
  writeFileSync(path.join(stateDir, 'phones.state'), JSON.stringify(old))
  const [phone] = new Phones(stateDir, seededRandom('x')).list()
  assert.deepEqual([phone?.name, phone?.file], ['pocket', undefined])
})
