import { z } from 'zod'
import { defineAction } from '../action.ts'

export const addPhone = defineAction({
  name: 'device.addPhone',
  summary: 'Make a WireGuard file for a phone, which this device serves, or make it anew',
  permission: 'write',
  input: z.strictObject({
    name: z.string().max(64).describe('1 to 32 of a-z, 0-9 and -'),
    endpoint: z
      .string()
      .regex(/^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$/)
      .optional()
      .describe('Where the phone reaches this device; with a port of its own, or the port of the tunnels'),
    offer: z
      .array(z.string().max(64))
      .max(16)
      .optional()
      .describe('Offered to it besides what it may use already: networks, `internet`, or `devices` for all others'),
    again: z
      .boolean()
      .optional()
      .describe(
        'Make the file of a phone of that name anew; the one before is of no use then. The endpoint stays unless given',
      ),
  }),
  /** The file has the phone's private key, and is kept nowhere. */
  output: z.strictObject({
    id: z.string(),
    file: z.string(),
    reaches: z.array(z.string()).describe('What it leads to, besides this device'),
  }),
})
