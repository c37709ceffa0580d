import { z } from 'zod'
import { defineAction } from '../action.ts'

const role = z.enum(['guard', 'middle', 'exit', 'peer'])

export const relays = defineAction({
  name: 'relays',
  summary: 'The relays of the directory, largest first',
  permission: 'read',
  input: z.strictObject({
    role: role.optional(),
    limit: z.number().int().min(1).max(1_000).optional(),
  }),
  output: z.strictObject({
    /** How many there are in all. */
    total: z.number(),
    relays: z.array(
      z.strictObject({
        id: z.string(),
        operator: z.string(),
        address: z.string(),
        roles: z.array(role),
        capacityKbit: z.number(),
        /** Two letters, as the relay claims; nobody has checked it. */
        country: z.string().optional(),
      }),
    ),
    /** What setRoute asked for. */
    chosenExit: z.string().optional(),
    hops: z.number(),
    /** Where the exit is to be if there is one, and where it must not be. */
    countries: z.array(z.string()).optional(),
    notCountries: z.array(z.string()).optional(),
  }),
})
