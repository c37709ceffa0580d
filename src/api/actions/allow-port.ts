import { z } from 'zod'
import { defineAction } from '../action.ts'

export const allowPort = defineAction({
  name: 'device.allow',
  summary: 'Let devices reach a port of this one, TCP and UDP, for a while',
  permission: 'write',
  input: z.strictObject({
    /** A name or id, or `*` for all. */
    device: z.string().max(64),
    port: z.number().int().min(1).max(65_535),
    /** 0 closes it. */
    forMs: z.number().int().min(0).max(86_400_000),
  }),
  output: z.strictObject({ allowed: z.boolean() }),
})
