// Offers and orders: credits for money. An order fixes its offer's price; what arrives is looked for in rounds.

import type { Random } from '#crypto/random.ts'
import type { Ledger } from './ledger.ts'
import type { Limits } from './limits.ts'
import { creditsFor, type OrderState, type PaymentProcessor, settle } from './payments.ts'
import { Problem } from './problem.ts'
import type { Sql } from './sql.ts'

/** How long after its end an order is still looked at, for payments that come late. */
const WATCH_MS = 30 * 86_400_000
const ROUND = 500
const MAX_LISTED = 100
const INVOICE_TIMEOUT_MS = 10_000

export interface Offer {
  readonly id: string
  readonly processor: string
  readonly credits: number
  readonly price: number
}

export interface Order {
  readonly id: string
  readonly processor: string
  readonly address: string
  readonly credits: number
  readonly price: number
  readonly state: OrderState
  readonly received: number
  readonly credited: number
  readonly expiresMs: number
}

interface OrderRow {
  readonly id: Uint8Array
  readonly account: Uint8Array
  readonly processor: string
  readonly reference: string
  readonly address: string
  readonly credits: number
  readonly price: number
  readonly state: OrderState
  readonly received: number
  readonly credited: number
  readonly expires: number
}

export interface OrdersOptions {
  readonly sql: Sql
  readonly ledger: Ledger
  readonly limits: Limits
  readonly processors: readonly PaymentProcessor[]
  readonly random: Random
}

export class Orders {
  readonly #options: OrdersOptions

  constructor(options: OrdersOptions) {
    this.#options = options
  }

  /** The offers that are open and can be paid, with the unit of their price. */
  async offers(): Promise<(Offer & { readonly unit: string })[]> {
    const rows = await this.#options.sql.all<Offer>(
      'SELECT id, processor, credits, price FROM offers WHERE is_open = 1 ORDER BY credits LIMIT $1',
      [MAX_LISTED],
    )
    return rows.flatMap(row => {
      const processor = this.#processor(row.processor)
      return processor === undefined ? [] : [{ ...row, unit: processor.unit }]
    })
  }

  /** Opens or changes an offer. */
  async setOffer(offer: Offer, isOpen: boolean): Promise<void> {
    await this.#options.sql.all(
      `INSERT INTO offers (id, processor, credits, price, is_open) VALUES ($1, $2, $3, $4, $5)
        ON CONFLICT (id) DO UPDATE SET processor = excluded.processor, credits = excluded.credits,
          price = excluded.price, is_open = excluded.is_open`,
      [offer.id, offer.processor, offer.credits, offer.price, isOpen ? 1 : 0],
    )
  }

  /** Orders what an offer offers. Throws Problem: offerUnknown, tooMany, unavailable. */
  async make(account: Uint8Array, offerId: string, now: number): Promise<Order> {
    const { sql, limits, random } = this.#options
    const offer = (await this.offers()).find(({ id }) => id === offerId)
    const processor = offer && this.#processor(offer.processor)
    if (offer === undefined || processor === undefined)
      throw new Problem('offerUnknown', 'order: there is no such offer now')
    await limits.count('ordersPerAccount', account, now)
    const invoice = await processor.makeInvoice(AbortSignal.timeout(INVOICE_TIMEOUT_MS)).catch(error => {
      throw new Problem('unavailable', `order: ${processor.name} does not answer, try again later`, error)
    })
    const row: OrderRow = {
      ...{ id: random(16), account, ...invoice, state: 'open', received: 0, credited: 0 },
      ...{ processor: offer.processor, credits: offer.credits, price: offer.price, expires: now + processor.orderMs },
    }
    await sql.all(
      `INSERT INTO orders (id, account, processor, reference, address, credits, price, state, created, expires)
        VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)`,
      [
        ...[row.id, account, row.processor, row.reference, row.address],
        ...[row.credits, row.price, row.state, now, row.expires],
      ],
    )
    return orderOf(row)
  }

  /** An account's orders, newest first, at most 100. */
  async ofAccount(account: Uint8Array): Promise<Order[]> {
    const rows = await this.#options.sql.all<OrderRow>(
      'SELECT * FROM orders WHERE account = $1 ORDER BY created DESC LIMIT $2',
      [account, MAX_LISTED],
    )
    return rows.map(orderOf)
  }

  /** Orders whose payment came too late, for the operator. */
  async late(): Promise<Order[]> {
    const rows = await this.#options.sql.all<OrderRow>(
      `SELECT * FROM orders WHERE state = 'late' ORDER BY created LIMIT $1`,
      [MAX_LISTED],
    )
    return rows.map(orderOf)
  }

  /** Credits a late order by its own price, as an operator decided. Throws Problem notFound. */
  async creditLate(id: string): Promise<number> {
    const { sql } = this.#options
    const [row] = await sql.all<OrderRow>(`SELECT * FROM orders WHERE id = $1 AND state = 'late'`, [
      Buffer.from(id, 'hex'),
    ])
    if (row === undefined) throw new Problem('notFound', 'credit an order: no late one has this id')
    const credited = creditsFor(row, row.received)
    await this.#write(row, 'paid', row.received, credited)
    return credited
  }

  /** One round: asks the processors what has arrived, and credits it. Returns how many orders changed. */
  async poll(now: number, signal: AbortSignal): Promise<number> {
    const { sql, processors } = this.#options
    let changed = 0
    for (const processor of processors) {
      for (let after: Uint8Array = new Uint8Array(); ; ) {
        const rows = await sql.all<OrderRow>(
          'SELECT * FROM orders WHERE processor = $1 AND expires > $2 AND id > $3 ORDER BY id LIMIT $4',
          [processor.name, now - WATCH_MS, after, ROUND],
        )
        const last = rows.at(-1)
        if (last === undefined) break
        const payments = await processor.payments(
          rows.map(row => row.reference),
          signal,
        )
        for (const row of rows) {
          const payment = payments.get(row.reference)
          const { state, credited } = settle({ ...row, expiresMs: row.expires }, payment, now)
          const received = Math.max(row.received, payment?.confirmed ?? 0)
          if (state === row.state && credited === row.credited && received === row.received) continue
          await this.#write(row, state, received, credited)
          changed++
        }
        after = last.id
      }
    }
    return changed
  }

  /** Changes an order that is still as it was read; another process may have been quicker. */
  async #write(row: OrderRow, state: OrderState, received: number, credited: number): Promise<void> {
    const { sql, ledger } = this.#options
    await sql.transaction(async tx => {
      const [isOurs] = await tx.all(
        `UPDATE orders SET state = $2, received = $3, credited = $4
          WHERE id = $1 AND state = $5 AND received = $6 AND credited = $7 RETURNING id`,
        [row.id, state, received, credited, row.state, row.received, row.credited],
      )
      if (isOurs !== undefined && credited > row.credited)
        await ledger.deposit(tx, row.account, 'orders', credited - row.credited)
    })
  }

  #processor(name: string): PaymentProcessor | undefined {
    return this.#options.processors.find(processor => processor.name === name)
  }
}

function orderOf(row: OrderRow): Order {
  const { processor, address, credits, price, state, received, credited, expires } = row
  const id = Buffer.from(row.id).toString('hex')
  return { ...{ id, processor, address, credits, price, state, received, credited }, expiresMs: expires }
}
