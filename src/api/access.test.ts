import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import test from 'node:test'
import { Access } from './access.ts'

function make(saved?: string) {
  const clock = { now: 1_000_000 }
  const kept: string[] = []
  const options = {
    random: (n: number) => randomBytes(n),
    now: () => clock.now,
    save: (text: string) => void kept.push(text),
  }
  const access = new Access(options, saved === undefined ? undefined : Access.decode(saved))
  return { access, clock, saved: () => kept.at(-1) ?? '' }
}

test('a code signs in once', () => {
  const { access } = make()
  const code = access.newCode()
  const made = access.login(code)
  assert.ok(made && access.isSession(made.cookie, made.page))
  assert.equal(access.login(code), undefined)
  assert.equal(access.login('x'), undefined)
})

test('a code that is five minutes old, or that eight others followed, is none', () => {
  const { access, clock } = make()
  const code = access.newCode()
  clock.now += 5 * 60_000
  assert.equal(access.login(code), undefined)
  const first = access.newCode()
  for (let i = 0; i < 8; i++) access.newCode()
  assert.equal(access.login(first), undefined)
})

test('cookie and page key count together, of one session, and for 30 days', () => {
  const { access, clock } = make()
  const [one, two] = [access.login(access.newCode()), access.login(access.newCode())]
  assert.ok(one && two)
  assert.equal(access.isSession(one.cookie, two.page), false)
  assert.equal(access.isSession(one.cookie, ''), false)
  clock.now += 30 * 86_400_000
  assert.equal(access.isSession(one.cookie, one.page), false)
})

test('sessions and tokens outlive the process, and what is kept has no secret', () => {
  const { access, saved } = make()
  access.setPort(40_000)
  const session = access.login(access.newCode())
  const token = access.createToken('a script', 'read')
  assert.ok(session && token)
  for (const secret of [session.cookie, session.page, token.token]) assert.ok(!saved().includes(secret))
  const later = make(saved()).access
  assert.equal(later.port, 40_000)
  assert.ok(later.isInUse)
  assert.ok(later.isSession(session.cookie, session.page))
  assert.equal(later.permissionOf(token.token), 'read')
})

test('a token may what it was made for until it is revoked', () => {
  const { access } = make()
  const made = access.createToken('a script', 'write')
  assert.ok(made)
  assert.equal(access.permissionOf(made.token), 'write')
  assert.deepEqual(
    access.tokens().map(({ name, permission }) => [name, permission]),
    [['a script', 'write']],
  )
  assert.equal(access.revoke('none'), false)
  assert.equal(access.revoke(made.id), true)
  assert.equal(access.permissionOf(made.token), undefined)
})

test('sessions and tokens have a bound', () => {
  const { access } = make()
  const first = access.login(access.newCode())
  assert.ok(first)
  for (let i = 0; i < 128; i++) access.login(access.newCode())
  assert.equal(access.isSession(first.cookie, first.page), false)
  for (let i = 0; i < 64; i++) assert.ok(access.createToken('t', 'read'))
  assert.equal(access.createToken('t', 'read'), undefined)
})

test('a file that a later version wrote is read', () => {
  const { access, saved } = make()
  const token = access.createToken('a script', 'read')
  const { tokens, ...others } = JSON.parse(saved()) as { tokens: object[] }
  const later = JSON.stringify({ ...others, tokens: tokens.map(one => ({ ...one, colour: 'red' })), passkeys: [] })
  assert.equal(make(later).access.permissionOf(token?.token ?? ''), 'read')
})

test('a damaged file is none', () => {
  for (const text of ['', '{', 'null', '[]', '{"port":1}', '{"port":-1,"sessions":[],"tokens":[]}'])
    assert.equal(Access.decode(text), undefined, text)
})
