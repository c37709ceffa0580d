import { z } from 'zod'
import { defineEvent } from '../action.ts'

export const throughput = defineEvent({
  name: 'throughput',
  summary: 'Bytes that this node received and sent in the last second',
  data: z.strictObject({
    at: z.number().describe('Unix ms'),
    inward: z.number(),
    outward: z.number(),
    streams: z.number(),
  }),
})
