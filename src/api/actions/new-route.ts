import { z } from 'zod'
import { defineAction } from '../action.ts'

export const newRoute = defineAction({
  name: 'newRoute',
  summary: 'Build new routes through other relays; open streams are reset',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ routes: z.number() }),
})
