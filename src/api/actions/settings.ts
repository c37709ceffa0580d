import { z } from 'zod'
import { defineAction } from '../action.ts'

/** Values by `section.key`; `null` takes the key out of the file, so that its default holds. */
const values = z
  .record(z.string().max(100), z.json())
  .describe('Values by section.key; null takes the key out of the file, so that its default holds')
const problem = z.strictObject({ key: z.string(), message: z.string() })

const field = z.strictObject({
  key: z.string().describe('`section.key`'),
  kind: z.enum(['boolean', 'number', 'text', 'choice', 'list', 'structure']),
  min: z.number().optional().describe('The most and the least of a number, the values of a choice'),
  max: z.number().optional(),
  choices: z.array(z.string()).optional(),
  default: z.json(),
  value: z.json().describe('What the node runs with'),
  inFile: z.json().optional().describe('What the file says; absent where it says nothing'),
  meaning: z.string().describe('Markdown of one line'),
})

export const settings = defineAction({
  name: 'settings',
  summary: 'Every key of the configuration file: its value, what it must be and what it means',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    file: z.string().describe('Where the file is, or would be made'),
    exists: z.boolean(),
    problem: z.string().optional().describe('Why nothing can be saved, where that is so'),
    advice: z.string().optional(),
    fields: z.array(field),
  }),
})

export const checkSettings = defineAction({
  name: 'settings.check',
  summary: 'What would be wrong with these values, without writing them',
  permission: 'read',
  input: z.strictObject({ values }),
  output: z.strictObject({ problems: z.array(problem) }),
})

export const saveSettings = defineAction({
  name: 'settings.save',
  summary: 'Write values into the configuration file; those that can hold at once do',
  permission: 'write',
  input: z.strictObject({ values }),
  output: z.strictObject({
    file: z.string(),
    problems: z.array(problem),
    applied: z.array(z.string()).optional(),
    later: z.array(z.string()).optional(),
  }),
})

export const reload = defineAction({
  name: 'reload',
  summary: 'Read the configuration file again; what can hold at once does, and nothing that is carried is dropped',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({
    applied: z.array(z.string()).describe('Keys that changed and hold from now on'),
    later: z.array(z.string()).describe('Keys that changed and hold when the node starts again'),
  }),
})
