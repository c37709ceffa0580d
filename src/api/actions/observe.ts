import { z } from 'zod'
import { defineAction } from '../action.ts'

/** Only with `[lab] observe = true`. */
export const observe = defineAction({
  name: 'observe',
  summary: 'Laboratory: begin to record which addresses this node sees and whether it can read a marker',
  permission: 'write',
  input: z.strictObject({ marker: z.string().min(16).max(256).describe('What is looked for in packets') }),
  output: z.strictObject({ observing: z.literal(true) }),
})

export const crash = defineAction({
  name: 'crash',
  summary: 'Laboratory: make the data plane of this node die, as of a bug, or one of its workers',
  permission: 'write',
  input: z.strictObject({ worker: z.number().int().min(0).max(7).optional().describe('Which one; all without it') }),
  output: z.strictObject({ crashing: z.literal(true) }),
})

export const observation = defineAction({
  name: 'observation',
  summary: 'Laboratory: what this node recorded since observe',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    addresses: z.array(z.string()),
    markerOnWire: z.boolean(),
    markerInside: z.boolean(),
  }),
})
