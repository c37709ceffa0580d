import { z } from 'zod'
import { defineAction } from '../action.ts'

const permission = z.enum(['read', 'write']).describe('Whether it may change things')

export const login = defineAction({
  name: 'login',
  summary: 'A link that opens the dashboard once, within five minutes',
  permission: 'owner',
  input: z.strictObject({}),
  output: z.strictObject({ url: z.string() }),
})

export const createToken = defineAction({
  name: 'token.create',
  summary: 'Make a token with which another program may use this API over HTTP; it is shown this once',
  permission: 'owner',
  input: z.strictObject({
    name: z
      .string()
      .regex(/^[^\p{C}]{1,64}$/u, '1 to 64 printable characters')
      .describe('What it is for'),
    permission,
  }),
  output: z.strictObject({ id: z.string(), token: z.string(), url: z.string() }),
})

export const listTokens = defineAction({
  name: 'token.list',
  summary: 'The tokens that were made, without their secrets',
  permission: 'owner',
  input: z.strictObject({}),
  output: z.strictObject({
    tokens: z.array(z.strictObject({ id: z.string(), name: z.string(), permission, createdMs: z.number() })),
  }),
})

export const revokeToken = defineAction({
  name: 'token.revoke',
  summary: 'Take a token back',
  permission: 'owner',
  input: z.strictObject({ id: z.string().max(64).describe('As token.list has it') }),
  output: z.strictObject({ revoked: z.boolean() }),
})
