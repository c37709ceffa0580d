import { z } from 'zod'
import { defineEvent } from '../action.ts'

export const failover = defineEvent({
  name: 'failover',
  summary: 'A route moved to its spare way',
  data: z.strictObject({
    silentMs: z.number().describe('How long it carried nothing'),
    count: z.number().describe('How many there were since the node started'),
  }),
})
