import { z } from 'zod'
import { defineAction } from '../action.ts'

const count = z.number().int().min(0)

export const wallet = defineAction({
  name: 'wallet',
  summary: 'What the wallet of this node holds',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    tokens: count,
    withdrawing: count,
    /** On the way to the issuer, or perhaps spent. */
    doubtful: count,
    /** Whether its account at the issuer has a name, by which it can be used elsewhere. */
    isNamed: z.boolean().optional(),
    accountName: z.string().optional(),
    history: z.array(z.strictObject({ atMs: z.number(), kind: z.string(), credits: count })),
  }),
})

export const redeemVoucher = defineAction({
  name: 'redeemVoucher',
  summary: 'Turn a voucher into credits',
  permission: 'write',
  input: z.strictObject({ code: z.string().min(1).max(64) }),
  output: z.strictObject({ credits: count, tokens: count }),
})

const offer = z.object({ id: z.string(), credits: count, price: count, unit: z.string() })
const order = z.object({
  id: z.string(),
  address: z.string(),
  credits: count,
  price: count,
  state: z.string(),
  expiresMs: z.number(),
})

export const topUp = defineAction({
  name: 'topUp',
  summary: "List the issuer's offers or take one, and collect what was paid",
  permission: 'write',
  input: z.strictObject({ offer: z.string().min(1).max(64).optional() }),
  output: z.strictObject({
    offers: z.array(offer),
    order: order.optional(),
    /** Orders that are not settled. */
    orders: z.array(order),
    received: count,
    tokens: count,
  }),
})

export const deposit = defineAction({
  name: 'deposit',
  summary: 'Give unspent credits back to the account at the issuer',
  permission: 'write',
  input: z.strictObject({ count: count.optional() }),
  output: z.strictObject({ taken: count, account: count, tokens: count }),
})

export const setAccount = defineAction({
  name: 'setAccount',
  summary: 'Make an account of a name at the issuer, or use one, perhaps by its recovery code',
  permission: 'person',
  input: z.strictObject({
    how: z.enum(['create', 'use', 'recover']),
    name: z.string().min(1).max(64),
    password: z.string().min(1).max(128),
    /** With `recover`: the code that came with `create`. */
    recovery: z.string().min(1).max(128).optional(),
  }),
  output: z.strictObject({
    account: count,
    tokens: count,
    /** With `create`: said this once. */
    recovery: z.string().optional(),
  }),
})

export const sendCredits = defineAction({
  name: 'sendCredits',
  summary: 'Put credits of the wallet in a file, for another wallet',
  permission: 'write',
  input: z.strictObject({ count: count.min(1), file: z.string().min(1).max(4_096) }),
  output: z.strictObject({ sent: count, tokens: count }),
})

export const receiveCredits = defineAction({
  name: 'receiveCredits',
  summary: "Take the credits of another wallet's file",
  permission: 'write',
  input: z.strictObject({ file: z.string().min(1).max(4_096) }),
  output: z.strictObject({ received: count, tokens: count }),
})
