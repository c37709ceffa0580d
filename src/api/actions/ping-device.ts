import { z } from 'zod'
import { defineAction } from '../action.ts'

export const pingDevice = defineAction({
  name: 'device.ping',
  summary: 'Ask a paired device for an echo through the tunnel',
  permission: 'read',
  input: z.strictObject({ device: z.string().max(64).describe('Its name or id') }),
  output: z.strictObject({
    id: z.string(),
    name: z.string(),
    path: z
      .enum(['direct', 'relayed', 'turn'])
      .optional()
      .describe('How packets go there; absent while there is no way'),
    to: z.string().optional().describe('Where they go to'),
    rttMs: z.number().optional().describe('Absent when no echo came back'),
  }),
})
