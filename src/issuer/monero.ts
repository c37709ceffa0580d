// Monero through monero-wallet-rpc: a fresh subaddress for every order, and the transfers that came to it.
//
// The wallet needs no spend key (make it with `generate_from_keys`, view key only). Run it with `--disable-rpc-login` on an
// address that only the issuer reaches. Source: the Monero wallet RPC documentation (create_address, get_transfers).

import { z } from 'zod'
import type { Payment, PaymentProcessor } from './payments.ts'

const ACCOUNT = 0
const CALL_MS = 20_000
const MAX_ANSWER_BYTES = 32 * 2 ** 20

export interface MoneroOptions {
  /** `http://127.0.0.1:18083` */
  readonly walletRpc: string
  readonly confirmations: number
  readonly orderMs: number
}

const amount = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER)
const address = z.object({ address: z.string().min(90).max(110), address_index: z.number().int().min(1) })
const transfer = z.object({
  amount,
  confirmations: z.number().int().min(0).default(0),
  timestamp: z.number().int().min(0),
  unlock_time: z.number().min(0),
  double_spend_seen: z.boolean().default(false),
  subaddr_index: z.object({ major: z.number().int(), minor: z.number().int() }),
})
type Transfer = z.infer<typeof transfer>
const transfers = z.object({ in: z.array(transfer).default([]), pool: z.array(transfer).default([]) })

/** A processor over a wallet's RPC. */
export function moneroProcessor(options: MoneroOptions): PaymentProcessor {
  return {
    name: 'monero',
    unit: 'piconero',
    orderMs: options.orderMs,
    async makeInvoice(signal) {
      const made = await call(options, 'create_address', { account_index: ACCOUNT }, address, signal)
      return { reference: String(made.address_index), address: made.address }
    },
    async payments(references, signal) {
      if (references.length === 0) return new Map()
      const query = { in: true, pool: true, account_index: ACCOUNT, subaddr_indices: references.map(Number) }
      return sumUp(await call(options, 'get_transfers', query, transfers, signal), options.confirmations)
    },
  }
}

/** Transfers by subaddress. One that its sender locked, or spent twice, is money that nobody may ever spend. */
function sumUp(found: z.infer<typeof transfers>, confirmations: number): Map<string, Payment> {
  const sums = new Map<string, Payment>()
  const isFinal = (one: Transfer) => one.confirmations >= confirmations
  for (const [one, isMined] of [
    ...found.in.map(one => [one, true] as const),
    ...found.pool.map(one => [one, false] as const),
  ]) {
    if (one.unlock_time !== 0 || one.double_spend_seen || one.subaddr_index.major !== ACCOUNT) continue
    const reference = String(one.subaddr_index.minor)
    const before = sums.get(reference) ?? { confirmed: 0, pending: 0, firstMs: Number.POSITIVE_INFINITY }
    const counts = isMined && isFinal(one)
    sums.set(reference, {
      confirmed: before.confirmed + (counts ? one.amount : 0),
      pending: before.pending + (counts ? 0 : one.amount),
      firstMs: Math.min(before.firstMs, one.timestamp * 1_000),
    })
  }
  return sums
}

async function call<S extends z.ZodType>(
  options: MoneroOptions,
  method: string,
  params: object,
  schema: S,
  signal: AbortSignal,
): Promise<z.infer<S>> {
  const response = await fetch(new URL('/json_rpc', options.walletRpc), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ jsonrpc: '2.0', id: '0', method, params }),
    signal: AbortSignal.any([signal, AbortSignal.timeout(CALL_MS)]),
  })
  const text = await response.text()
  if (!response.ok || text.length > MAX_ANSWER_BYTES)
    throw new Error(`ask monero-wallet-rpc for ${method}: status ${response.status}, ${text.length} characters`)
  const answer = z
    .object({ result: z.unknown(), error: z.object({ message: z.string() }).optional() })
    .parse(JSON.parse(text))
  if (answer.error !== undefined) throw new Error(`ask monero-wallet-rpc for ${method}: ${answer.error.message}`)
  return schema.parse(answer.result)
}
