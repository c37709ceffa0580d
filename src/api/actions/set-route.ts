import { z } from 'zod'
import { defineAction } from '../action.ts'

const countries = z.array(z.string().regex(/^[A-Z]{2}$/, 'two letters of a country, like CH')).max(64)

export const setRoute = defineAction({
  name: 'setRoute',
  summary: 'Choose the number of hops, the exit or its country until the node ends, and build new routes',
  permission: 'write',
  input: z.strictObject({
    hops: z.number().int().min(1).max(5).optional().describe('Hops of a route'),
    exit: z
      .string()
      .regex(/^([0-9a-f]{64})?$/, 'a node id of 64 hex digits, or nothing')
      .optional()
      .describe("A relay's id; an empty text lets the client choose again"),
    countries: countries.optional().describe('Where the exit is to be, if a relay there fits; none: anywhere'),
    notCountries: countries.optional().describe('Where it must not be'),
  }),
  output: z.strictObject({ routes: z.number() }),
})
