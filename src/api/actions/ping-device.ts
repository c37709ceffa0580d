import { z } from 'zod'
import { defineAction } from '../action.ts'

export const pingDevice = defineAction({
  name: 'device.ping',
  summary: 'Ask a paired device for an echo through the tunnel',
  permission: 'read',
  input: z.strictObject({ device: z.string().max(64) }),
  output: z.strictObject({
    id: z.string(),
    name: z.string(),
    /** How packets go there; absent while there is no way. */
    path: z.enum(['direct', 'relayed', 'turn']).optional(),
    /** Where they go to. */
    to: z.string().optional(),
    /** Absent when no echo came back. */
    rttMs: z.number().optional(),
  }),
})
