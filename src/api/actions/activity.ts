import { z } from 'zod'
import { defineAction } from '../action.ts'

/** A line of the log. It never has an address, a name, a key or a token of a user. */
export const logLine = z.strictObject({
  number: z.number().describe('Counts up from 1 while the node runs'),
  at: z.number().describe('Unix ms'),
  level: z.enum(['error', 'warn', 'info', 'debug']),
  component: z.string(),
  event: z.string(),
  fields: z.record(z.string(), z.union([z.number(), z.boolean(), z.string()])),
})

export const activity = defineAction({
  name: 'activity',
  summary: 'What this node did lately, oldest first',
  permission: 'read',
  input: z.strictObject({
    after: z.number().int().min(0).optional().describe('Only lines after this number'),
  }),
  output: z.strictObject({ lines: z.array(logLine) }),
})
