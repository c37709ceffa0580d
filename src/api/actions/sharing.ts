import { z } from 'zod'
import { defineAction } from '../action.ts'

/** A network like `192.168.1.0/24`, or `internet`; `devices`, all others, for phones. */
const network = z
  .string()
  .max(64)
  .describe('A network like 192.168.1.0/24, or internet; devices, all others, for phones')
const device = z.string().max(64).describe('Its name or id')

export const offerNetwork = defineAction({
  name: 'device.offer',
  summary: 'Let paired devices reach a network through this one, or the internet',
  permission: 'write',
  /** Names or ids, or `*` for all. */
  input: z.strictObject({
    network,
    to: z.array(device).min(1).max(64).default(['*']).describe('Names or ids of devices, or * for all'),
  }),
  output: z.strictObject({ network: z.string(), to: z.array(z.string()) }),
})

export const withdrawNetwork = defineAction({
  name: 'device.withdraw',
  summary: 'End an offer of this device: nobody reaches that network through it any more',
  permission: 'write',
  input: z.strictObject({ network }),
  output: z.strictObject({ network: z.string() }),
})

export const acceptNetwork = defineAction({
  name: 'device.accept',
  summary: 'Reach a network through the paired device that offers it',
  permission: 'write',
  input: z.strictObject({ device, network }),
  output: z.strictObject({ network: z.string() }),
})

export const declineNetwork = defineAction({
  name: 'device.decline',
  summary: 'Reach a network through that device no more',
  permission: 'write',
  input: z.strictObject({ device, network }),
  output: z.strictObject({ network: z.string() }),
})
