import { z } from 'zod'
import { defineAction } from '../action.ts'

export const setRoute = defineAction({
  name: 'setRoute',
  summary: 'Choose the number of hops or the exit until the node ends, and build new routes',
  permission: 'write',
  input: z.strictObject({
    hops: z.number().int().min(1).max(5).optional(),
    /** A relay's id; '' lets the client choose again. */
    exit: z
      .string()
      .regex(/^([0-9a-f]{64})?$/, 'a node id of 64 hex digits, or nothing')
      .optional(),
  }),
  output: z.strictObject({ routes: z.number() }),
})
