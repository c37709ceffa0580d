import assert from 'node:assert/strict'
import { test } from 'node:test'
import { seededRandom } from '#crypto/random.ts'
import { makeLongCode, makeShortCode, type PairCode, placeKey, readCode, toWords } from './code.ts'

const random = seededRandom('code')
const read = (text: string) => readCode(text) as PairCode
const problem = (text: string) => {
  const result = readCode(text)
  return 'problem' in result ? result.problem : undefined
}

test('a short code is four words, and is read however it is typed', () => {
  const code = makeShortCode(random)
  assert.match(code.text, /^[a-z]{3,8}(-[a-z]{3,8}){3}$/)
  assert.deepEqual(read(code.text), code)
  assert.deepEqual(read(`  ${code.text.toUpperCase().replaceAll('-', '  ')}\n`), code)
  const first4 = code.text
    .split('-')
    .map(word => word.slice(0, 4))
    .join(' ')
  assert.deepEqual(read(first4), code, 'four letters of each word are enough')
})

test('a long code is one line, and a truncated or damaged one is told from a whole one', () => {
  const code = makeLongCode(random)
  assert.ok(code.text.length < 64)
  assert.deepEqual(read(code.text), code)
  for (let length = 14; length < code.text.length; length++)
    assert.match(problem(code.text.slice(0, length)) ?? '', /cut off/)
  assert.match(problem(`${code.text}A`) ?? '', /cut off/)
  assert.match(problem(code.text.replace(/.$/, last => (last === 'A' ? 'B' : 'A'))) ?? '', /cut off|damaged/)
})

test('what is no code is refused in words that help', () => {
  assert.match(problem('') ?? '', /four words, this has 0/)
  assert.match(problem('abandon ability able') ?? '', /four words, this has 3/)
  assert.match(problem('abandon ability able zzz') ?? '', /"zzz" is not a word/)
  assert.match(problem('hoplite-pair2-abc') ?? '', /version/)
  assert.match(problem('x'.repeat(1_000)) ?? '', /too long/)
})

test('the place and the secret have nothing in common', () => {
  const code = makeShortCode(random)
  const [one = '', two = '', three = '', four = ''] = code.text.split('-')
  assert.equal(Buffer.from(code.place).toString(), `${one}-${two}`)
  assert.equal(Buffer.from(code.secret).toString(), `${three}-${four}`)
  assert.deepEqual(placeKey(code.place).publicKey, placeKey(read(code.text).place).publicKey)
})

test('words take 11 bits each, from the front', () => {
  assert.deepEqual(toWords(new Uint8Array(6), 4), ['abandon', 'abandon', 'abandon', 'abandon'])
  assert.deepEqual(toWords(new Uint8Array(6).fill(255), 4), ['zoo', 'zoo', 'zoo', 'zoo'])
  assert.deepEqual(toWords(Uint8Array.of(0, 32, 0, 0, 0, 0), 4)[0], 'ability')
})
