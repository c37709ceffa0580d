// Recovery codes of accounts: 160 random bits in Crockford's base 32, in groups of four. The issuer sees them as little as a
// password.

import type { Random } from '#crypto/random.ts'

/** No I, L, O or U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'
const LENGTH = 32

/** A new code, like `7K2M-…`, 39 characters. */
export function newRecoveryCode(random: Random): string {
  const text = Array.from(random(LENGTH), byte => ALPHABET[byte % ALPHABET.length]).join('')
  return text.replace(/.{4}(?=.)/g, '$&-')
}

/** A code as it was typed, in the form in which it is used: what is read wrongly most often is put right. */
export function readRecoveryCode(text: string): string {
  return text
    .toUpperCase()
    .replace(/[^0-9A-Z]/g, '')
    .replace(/O/g, '0')
    .replace(/[IL]/g, '1')
}
