// What a payment processor is to the issuer: a fresh place to pay to for each order, and what has arrived there.

/** An amount in the processor's smallest unit is an integer below 2^53. */
export interface PaymentProcessor {
  readonly name: string
  /** What offers are priced in: `piconero`. */
  readonly unit: string
  /** How long an order waits for its first payment. */
  readonly orderMs: number
  /** A new place to pay to; `reference` finds it again. */
  makeInvoice(signal: AbortSignal): Promise<{ readonly reference: string; readonly address: string }>
  /** What has arrived for these references; those that nothing came for may be left out. */
  payments(references: readonly string[], signal: AbortSignal): Promise<ReadonlyMap<string, Payment>>
}

export interface Payment {
  /** What counts: final as far as the processor can tell. */
  readonly confirmed: number
  /** What was seen and may still come to nothing. */
  readonly pending: number
  /** When the first of it was seen. */
  readonly firstMs: number
}

export type OrderState = 'open' | 'seen' | 'paid' | 'underpaid' | 'expired' | 'late'

export interface OrderTerms {
  readonly state: OrderState
  readonly credits: number
  readonly price: number
  readonly credited: number
  readonly expiresMs: number
}

export interface Settlement {
  readonly state: OrderState
  /** In all, never less than before. */
  readonly credited: number
}

/**
 * What a payment makes of an order.
 *
 *   open ──(something seen in time)──► seen ──(the price confirmed)──► paid; more than the price gives more credits
 *     │                                  └──(time over, all confirmed, less than the price)──► underpaid: its part
 *     └──(time over)──► expired ──(something came after all)──► late: an operator decides
 */
export function settle(order: OrderTerms, payment: Payment | undefined, now: number): Settlement {
  const { state, credited } = order
  const hasCome = payment !== undefined && payment.confirmed + payment.pending > 0
  if (!hasCome) return { state: state === 'open' && now > order.expiresMs ? 'expired' : state, credited }
  const isLate = (state === 'open' || state === 'expired' || state === 'late') && payment.firstMs > order.expiresMs
  if (isLate) return { state: 'late', credited }
  const earned = Math.max(credited, creditsFor(order, payment.confirmed))
  if (payment.confirmed >= order.price) return { state: 'paid', credited: earned }
  if (state === 'paid' || state === 'underpaid') return { state, credited: earned }
  const isOver = now > order.expiresMs && payment.pending === 0
  return isOver ? { state: 'underpaid', credited: earned } : { state: 'seen', credited }
}

/** Credits for an amount at the order's price, rounded down. */
export function creditsFor(order: Pick<OrderTerms, 'credits' | 'price'>, amount: number): number {
  return Number((BigInt(amount) * BigInt(order.credits)) / BigInt(order.price))
}
