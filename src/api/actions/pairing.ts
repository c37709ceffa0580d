import { z } from 'zod'
import { defineAction } from '../action.ts'

export const pair = defineAction({
  name: 'pair',
  summary: 'Make a code by which another device can be paired',
  permission: 'write',
  /** Four words to type, or a line for a picture, a file or a clipboard. */
  input: z.strictObject({
    kind: z.enum(['short', 'long']).describe('Four words to type, or a line for a picture, a file or a clipboard'),
  }),
  output: z.strictObject({ code: z.string(), expiresMs: z.number() }),
})

export const join = defineAction({
  name: 'pair.join',
  summary: 'Pair with the device that shows this code',
  permission: 'write',
  input: z.strictObject({ code: z.string().max(1_000).describe('The words or the line that the other device shows') }),
  output: z.strictObject({ expiresMs: z.number() }),
})

export const pairing = defineAction({
  name: 'pair.status',
  summary: 'How far the pairing is',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    state: z.enum(['none', 'waiting', 'answered', 'paired', 'failed']),
    words: z.array(z.string()).optional().describe('The same on both devices, or somebody stands between'),
    device: z.strictObject({ id: z.string(), name: z.string() }).optional(),
    problem: z.string().optional(),
    advice: z.string().optional(),
  }),
})

export const endPairing = defineAction({
  name: 'pair.end',
  summary: 'Take a code back, or stop looking for the device that shows one',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ ended: z.boolean() }),
})
