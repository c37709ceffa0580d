import { z } from 'zod'
import { defineAction } from '../action.ts'

export const connect = defineAction({
  name: 'connect',
  summary: 'Build a route and let applications use the proxy',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ connecting: z.literal(true) }),
})

export const disconnect = defineAction({
  name: 'disconnect',
  summary: 'Close every route and refuse what applications send, until connect',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ off: z.literal(true) }),
})
