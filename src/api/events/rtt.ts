import { z } from 'zod'
import { defineEvent } from '../action.ts'

export const rtt = defineEvent({
  name: 'rtt',
  summary: 'Round-trip times to the hops of the main route',
  data: z.strictObject({
    hops: z.array(z.strictObject({ id: z.string(), ms: z.number().optional() })),
  }),
})
