// What an issuer's operator does: in its database, whether its server runs or not.

import { HopliteError } from '#api/errors.ts'
import { loadConfig } from '#daemon/config.ts'
import { openIssuer } from '#daemon/wallet/issuer.ts'
import type { Issuer } from '#issuer/issuer.ts'
import { LIMITS, type LimitName } from '#issuer/limits.ts'
import { Problem } from '#issuer/problem.ts'
import { configFile, stateDirectory } from '#platform/state/directories.ts'
import { EXIT } from '../exit-codes.ts'
import { print } from '../output.ts'

export interface AdminOptions {
  config?: string
  stateDir?: string
  json?: boolean
}

export function showId(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer =>
    print(options.json, { ok: true, id: issuer.id, name: issuer.name }, issuer.id),
  )
}

export function makeVouchers(options: AdminOptions & { count: number; credits: number; days: number }): Promise<void> {
  return withIssuer(options, async issuer => {
    const expiresMs = Date.now() + options.days * 86_400_000
    const codes = await issuer.vouchers.make(options.count, options.credits, expiresMs)
    print(options.json, { ok: true, credits: options.credits, expiresMs, codes }, codes.join('\n'))
  })
}

export function listOffers(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const offers = await issuer.orders.offers()
    const lines = offers.map(({ id, credits, price, unit }) => `${id}  ${credits} credits for ${price} ${unit}`)
    print(options.json, { ok: true, offers }, lines.join('\n') || 'no offer is open')
  })
}

export function setOffer(
  id: string,
  options: AdminOptions & { credits: number; price: number; processor: string; closed?: boolean },
): Promise<void> {
  return withIssuer(options, async issuer => {
    const { credits, price, processor, closed = false } = options
    await issuer.orders.setOffer({ id, credits, price, processor }, !closed)
    print(options.json, { ok: true, id, isOpen: !closed }, `${id} is ${closed ? 'closed' : 'open'}`)
  })
}

export function listLate(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const orders = await issuer.orders.late()
    const lines = orders.map(
      ({ id, received, price, credits }) => `${id}  ${received} of ${price}, for ${credits} credits`,
    )
    print(options.json, { ok: true, orders }, lines.join('\n') || 'no payment came too late')
  })
}

export function creditLate(id: string, options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const credits = await issuer.orders.creditLate(id)
    print(options.json, { ok: true, credits }, `${credits} credits`)
  })
}

export function listKeys(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const { keys } = await issuer.keys.directory(Date.now())
    const list = [...keys.keys].map(([id, key]) => ({
      id,
      signsFromMs: key.signsFromMs,
      signsUntilMs: key.signsUntilMs,
      acceptedUntilMs: key.acceptedUntilMs,
      redeemedUntilMs: key.redeemedUntilMs,
    }))
    const day = (ms: number) => new Date(ms).toISOString().slice(0, 10)
    const lines = list.map(
      key =>
        `${key.id.slice(0, 12)}  signs ${day(key.signsFromMs)} to ${day(key.signsUntilMs)}, ` +
        `accepted until ${day(key.acceptedUntilMs)}, redeemed until ${day(key.redeemedUntilMs)}`,
    )
    print(options.json, { ok: true, keys: list }, lines.join('\n'))
  })
}

export async function rotateKeys(options: AdminOptions): Promise<void> {
  await withIssuer(options, issuer => issuer.keys.rotate(Date.now(), true))
  await listKeys(options)
}

export function listLimits(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const limits: Record<string, number> = {}
    for (const name of Object.keys(LIMITS) as LimitName[]) limits[name] = await issuer.limits.limit(name)
    const lines = Object.entries(limits).map(([name, value]) => `${name.padEnd(20)} ${value}`)
    print(options.json, { ok: true, limits }, lines.join('\n'))
  })
}

export function setLimit(name: string, value: number, options: AdminOptions): Promise<void> {
  if (!(name in LIMITS))
    throw new HopliteError(
      'REQUEST_INVALID',
      `set a limit: there is none called ${name}`,
      'hoplite issuer admin limits lists them',
    )
  return withIssuer(options, async issuer => {
    await issuer.limits.set(name as LimitName, value)
    print(options.json, { ok: true, name, value }, `${name} is ${value}`)
  })
}

/** Ends with 1 when the books do not agree. */
export function audit(options: AdminOptions): Promise<void> {
  return withIssuer(options, async issuer => {
    const { faults, ...books } = await issuer.ledger.audit()
    const lines = books.keys.map(
      key =>
        `key ${key.number}: ${key.issued} issued = ${key.outstanding} outstanding + ${key.redeemed} redeemed + ` +
        `${key.expired} expired`,
    )
    lines.push(`accounts hold ${books.balances}; ${books.vouchers} came in by vouchers, ${books.orders} by orders`)
    lines.push(...(faults.length === 0 ? ['the books agree'] : faults))
    print(options.json, { ok: faults.length === 0, ...books, faults }, lines.join('\n'))
    if (faults.length > 0) process.exitCode = EXIT.failed
  })
}

async function withIssuer(options: AdminOptions, run: (issuer: Issuer) => Promise<void>): Promise<void> {
  const issuer = await openIssuer(loadConfig(configFile(options.config)), stateDirectory(options.stateDir))
  try {
    await run(issuer)
  } catch (error) {
    if (error instanceof Problem)
      throw new HopliteError('REQUEST_INVALID', error.message, 'the message says why', error)
    throw error
  } finally {
    await issuer.close()
  }
}
