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
    doubtful: count.describe('On the way to the issuer, or perhaps spent'),
    isNamed: z
      .boolean()
      .optional()
      .describe('Whether its account at the issuer has a name, by which it can be used elsewhere'),
    accountName: z.string().optional(),
    history: z.array(z.strictObject({ atMs: z.number(), kind: z.string(), credits: count })),
  }),
})

export const redeemVoucher = defineAction({
  name: 'redeemVoucher',
  summary: 'Turn a voucher into credits',
  permission: 'write',
  input: z.strictObject({ code: z.string().min(1).max(64).describe('A voucher') }),
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
  input: z.strictObject({
    offer: z.string().min(1).max(64).optional().describe('What to buy, by its id; without it, what there is to buy'),
  }),
  output: z.strictObject({
    offers: z.array(offer),
    order: order.optional(),
    orders: z.array(order).describe('Orders that are not settled'),
    received: count,
    tokens: count,
  }),
})

export const deposit = defineAction({
  name: 'deposit',
  summary: 'Give unspent credits back to the account at the issuer',
  permission: 'write',
  input: z.strictObject({ count: count.optional().describe('How many credits; all without it') }),
  output: z.strictObject({ taken: count, account: count, tokens: count }),
})

export const setAccount = defineAction({
  name: 'setAccount',
  summary: 'Make an account of a name at the issuer, or use one, perhaps by its recovery code',
  permission: 'person',
  input: z.strictObject({
    how: z.enum(['create', 'use', 'recover']).describe('Make one, use one that there is, or set its password anew'),
    name: z.string().min(1).max(64).describe('The name of the account'),
    password: z.string().min(1).max(128).describe('The issuer never sees it'),
    recovery: z.string().min(1).max(128).optional().describe('With `recover`: the code that came with `create`'),
  }),
  output: z.strictObject({
    account: count,
    tokens: count,
    recovery: z.string().optional().describe('With `create`: said this once'),
  }),
})

export const sendCredits = defineAction({
  name: 'sendCredits',
  summary: 'Put credits of the wallet in a file, for another wallet',
  permission: 'write',
  input: z.strictObject({
    count: count.min(1).describe('How many credits'),
    file: z.string().min(1).max(4_096).describe('The file to write; it must not exist'),
  }),
  output: z.strictObject({ sent: count, tokens: count }),
})

export const receiveCredits = defineAction({
  name: 'receiveCredits',
  summary: "Take the credits of another wallet's file",
  permission: 'write',
  input: z.strictObject({ file: z.string().min(1).max(4_096).describe('A file that wallet send wrote') }),
  output: z.strictObject({ received: count, tokens: count }),
})
