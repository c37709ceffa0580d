import { z } from 'zod'
import { defineAction } from '../action.ts'

const line = z.string().max(16_384).describe('A letter as it is carried by hand')

export const takeLetters = defineAction({
  name: 'letters.take',
  summary: 'Take the letters that are to be carried by hand',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ lines: z.array(z.string()) }),
})

export const giveLetter = defineAction({
  name: 'letters.give',
  summary: 'Hand in a letter that was carried by hand',
  permission: 'write',
  input: z.strictObject({ line }),
  /** False when it is cut off, or something else. */
  output: z.strictObject({ taken: z.boolean() }),
})
