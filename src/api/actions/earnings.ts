import { z } from 'zod'
import { defineAction } from '../action.ts'

const count = z.number().int().min(0)

export const earnings = defineAction({
  name: 'earnings',
  summary: 'What this relay was paid',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    queued: count.describe('Tokens taken and not yet handed in'),
    redeemed: count,
    refused: count.describe('Spent elsewhere before this relay handed them in'),
    days: z.array(z.strictObject({ day: z.string(), redeemed: count })),
    account: count.optional().describe('Credits on the account at the issuer; absent when it does not answer'),
    tokens: count.describe("Credits drawn as new tokens, in this relay's wallet"),
  }),
})

export const handIn = defineAction({
  name: 'handIn',
  summary: 'Hand in what was taken now, and not with the next batch',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ handedIn: count }),
})
