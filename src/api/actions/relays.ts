import { z } from 'zod'
import { defineAction } from '../action.ts'

const role = z.enum(['guard', 'middle', 'exit', 'peer'])

export const relays = defineAction({
  name: 'relays',
  summary: 'The relays of the directory, largest first',
  permission: 'read',
  input: z.strictObject({
    role: role.optional().describe('Those that have this role'),
    limit: z.number().int().min(1).max(1_000).optional().describe('How many are told at most'),
  }),
  output: z.strictObject({
    total: z.number().describe('How many there are in all'),
    relays: z.array(
      z.strictObject({
        id: z.string(),
        operator: z.string(),
        address: z.string(),
        roles: z.array(role),
        capacityKbit: z.number(),
        country: z.string().optional().describe('Two letters, as the relay claims; nobody has checked it'),
      }),
    ),
    chosenExit: z.string().optional().describe('What setRoute asked for'),
    hops: z.number(),
    countries: z
      .array(z.string())
      .optional()
      .describe('Where the exit is to be if there is one, and where it must not be'),
    notCountries: z.array(z.string()).optional(),
  }),
})
