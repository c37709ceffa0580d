import { z } from 'zod'
import { defineAction } from '../action.ts'

export const allowPort = defineAction({
  name: 'device.allow',
  summary: 'Let devices reach a port of this one, TCP and UDP, for a while',
  permission: 'write',
  input: z.strictObject({
    device: z.string().max(64).describe('A name or id, or `*` for all'),
    port: z.number().int().min(1).max(65_535).describe('A TCP or UDP port of this device'),
    forMs: z.number().int().min(0).max(86_400_000).describe('0 closes it'),
  }),
  output: z.strictObject({ allowed: z.boolean() }),
})
