import { z } from 'zod'
import { defineAction } from '../action.ts'

export const traffic = defineAction({
  name: 'traffic',
  summary: 'Bytes carried in each second of the last five minutes, oldest first',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    at: z.number().describe('Unix ms of the newest sample'),
    inward: z.array(z.number()),
    outward: z.array(z.number()),
  }),
})
