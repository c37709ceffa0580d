import { z } from 'zod'
import { defineEvent } from '../action.ts'

export const failover = defineEvent({
  name: 'failover',
  summary: 'A route moved to its spare way',
  data: z.strictObject({
    /** How long it carried nothing. */
    silentMs: z.number(),
    /** How many there were since the node started. */
    count: z.number(),
  }),
})
