// Vouchers: codes that an operator makes and hands out. The database knows their hashes.

import { createHash } from 'node:crypto'
import type { Random } from '#crypto/random.ts'
import { digestOf, type Ledger } from './ledger.ts'
import type { Limits } from './limits.ts'
import { Problem } from './problem.ts'
import type { Sql } from './sql.ts'

const CODE_BYTES = 15
/** Crockford's base 32: no I, L, O or U. */
const ALPHABET = '0123456789ABCDEFGHJKMNPQRSTVWXYZ'

export class Vouchers {
  readonly #sql: Sql
  readonly #ledger: Ledger
  readonly #limits: Limits
  readonly #random: Random

  constructor(sql: Sql, ledger: Ledger, limits: Limits, random: Random) {
    this.#sql = sql
    this.#ledger = ledger
    this.#limits = limits
    this.#random = random
  }

  /** Makes vouchers of so many credits each; the codes are shown once and not kept. */
  async make(count: number, credits: number, expiresMs: number): Promise<string[]> {
    const codes = Array.from({ length: count }, () => formatCode(this.#random(CODE_BYTES)))
    await this.#sql.transaction(async tx => {
      for (const code of codes)
        await tx.all('INSERT INTO vouchers VALUES ($1, $2, $3, NULL)', [codeHash(code), credits, expiresMs])
    })
    return codes
  }

  /**
   * Puts a voucher's credits on an account, and says how many. The same account may repeat it. Throws Problem:
   * voucherUnknown, voucherUsed, voucherExpired, tooMany.
   */
  async redeem(account: Uint8Array, text: string, now: number): Promise<number> {
    const code = normalize(text)
    await this.#limits.count('vouchersPerAccount', account, now)
    if (code === undefined) throw unknown()
    const claim = digestOf('voucher', Buffer.from(code), account)
    return this.#sql.transaction(async tx => {
      const [taken] = await tx.all<{ credits: number }>(
        'UPDATE vouchers SET claim = $2 WHERE code = $1 AND claim IS NULL AND expires > $3 RETURNING credits',
        [codeHash(code), claim, now],
      )
      if (taken !== undefined) {
        await this.#ledger.deposit(tx, account, 'vouchers', taken.credits)
        return taken.credits
      }
      const [row] = await tx.all<{ credits: number; claim: Uint8Array | null }>(
        'SELECT credits, claim FROM vouchers WHERE code = $1',
        [codeHash(code)],
      )
      if (row === undefined) throw unknown()
      if (row.claim === null) throw new Problem('voucherExpired', 'redeem a voucher: its time is over')
      if (Buffer.from(row.claim).equals(claim)) return row.credits
      throw new Problem('voucherUsed', 'redeem a voucher: it was redeemed before')
    })
  }
}

function unknown(): Problem {
  return new Problem('voucherUnknown', 'redeem a voucher: there is none of this code, check it for mistakes')
}

/** `XXXX-XXXX-…`, 24 letters and digits. */
function formatCode(bytes: Uint8Array): string {
  let bits = 0n
  for (const byte of bytes) bits = (bits << 8n) | BigInt(byte)
  let text = ''
  for (let at = CODE_BYTES * 8 - 5; at >= 0; at -= 5) text += ALPHABET[Number((bits >> BigInt(at)) & 31n)]
  return text.replaceAll(/(.{4})(?=.)/g, '$1-')
}

/** The code as it was made: people write small letters, O for 0, and leave out dashes. */
function normalize(text: string): string | undefined {
  const plain = text.toUpperCase().replaceAll(/[\s-]/g, '').replaceAll('O', '0').replaceAll(/[IL]/g, '1')
  return /^[0-9A-HJKMNP-TV-Z]{24}$/.test(plain) ? plain.replaceAll(/(.{4})(?=.)/g, '$1-') : undefined
}

function codeHash(code: string): Uint8Array {
  return createHash('sha256').update('hoplite voucher\n').update(code).digest()
}
