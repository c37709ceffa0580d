import { z } from 'zod'
import { defineAction } from '../action.ts'

export const addPhone = defineAction({
  name: 'device.addPhone',
  summary: 'Make a WireGuard file for a phone, which this device serves, or make it anew',
  permission: 'write',
  input: z.strictObject({
    name: z.string().max(64),
    /** Where the phone reaches this device; with a port of its own, or the port of the tunnels. */
    endpoint: z
      .string()
      .regex(/^([A-Za-z0-9.-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(:[0-9]{1,5})?$/)
      .optional(),
    /** Offered to it besides what it may use already: networks, `internet`, or `devices` for all others. */
    offer: z.array(z.string().max(64)).max(16).optional(),
    /** Make the file of a phone of that name anew; the one before is of no use then. The endpoint stays unless given. */
    again: z.boolean().optional(),
  }),
  /** The file has the phone's private key, and is kept nowhere. */
  output: z.strictObject({
    id: z.string(),
    file: z.string(),
    /** What it leads to, besides this device. */
    reaches: z.array(z.string()),
  }),
})
