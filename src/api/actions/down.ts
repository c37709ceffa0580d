import { z } from 'zod'
import { defineAction } from '../action.ts'

export const down = defineAction({
  name: 'down',
  summary: 'Stop this node: close its routes and end it',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ stopping: z.literal(true) }),
})
