import { z } from 'zod'
import { defineAction } from '../action.ts'

export const down = defineAction({
  name: 'down',
  summary: 'Stop this node: close its routes and end it',
  permission: 'write',
  input: z.strictObject({
    staysShut: z
      .boolean()
      .describe('Of a client or entry with its kill switch: the firewall stands until the next start')
      .optional(),
  }),
  output: z.strictObject({ stopping: z.literal(true) }),
})
