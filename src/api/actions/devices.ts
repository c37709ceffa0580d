import { z } from 'zod'
import { defineAction } from '../action.ts'

const device = z.strictObject({
  id: z.string(),
  name: z.string(),
  ipv6: z.string(),
  ipv4: z.string().optional().describe('Absent where another device had the same address first'),
  generation: z.number().describe('How often its keys have changed, and once'),
})
/** What this device offers, and to whom: names, or `*` for all. */
const offer = z.strictObject({
  network: z.string().describe('A network, or `internet`'),
  to: z.array(z.string()),
  isSetting: z.boolean().describe('Whether the configuration says so, and it cannot be withdrawn here'),
})
/** What a paired device offers to this one. */
const offered = z.strictObject({
  network: z.string().describe('A network, or `internet`'),
  isAccepted: z.boolean(),
  isInUse: z.boolean().describe('Whether packets go there now'),
  problem: z.string().optional().describe('Why it cannot be accepted, or is not in use though it is'),
})
const named = z.strictObject({ device: z.string().max(64).describe('Its name or id') })

export const devices = defineAction({
  name: 'devices',
  summary: 'This device and those paired with it',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    own: device.extend({
      offers: z.array(offer),
      problem: z.string().optional().describe('Why what is offered is not to be had'),
    }),
    devices: z.array(
      device.extend({
        pairedMs: z.number(),
        isConfirmed: z.boolean(),
        ownName: z.string().optional().describe('What it calls itself, where that is not its name here'),
        offered: z.array(offered),
        path: z
          .enum(['direct', 'relayed', 'turn'])
          .optional()
          .describe('How packets go there; absent while there is no way'),
        isUp: z.boolean().describe('Whether the tunnel has keys'),
        rxBytes: z.number(),
        txBytes: z.number(),
      }),
    ),
    /** Phones with a plain WireGuard app that this device serves. */
    phones: z.array(
      z.strictObject({
        id: z.string(),
        name: z.string(),
        ipv6: z.string(),
        ipv4: z.string().optional(),
        isUp: z.boolean(),
        reaches: z
          .array(z.string())
          .describe('What its file leads to, besides this device: networks, `internet`, `devices`'),
        problem: z.string().optional().describe('Why it needs another file'),
      }),
    ),
    interface: z.string().optional().describe('The network interface of the tunnels, where there is one'),
    knowsNames: z
      .boolean()
      .optional()
      .describe('Where there is one: whether this system asks for the names of devices by itself'),
  }),
})

export const renameDevice = defineAction({
  name: 'device.rename',
  summary: 'Call this device something else everywhere, or a paired one here',
  permission: 'write',
  input: named.extend({ name: z.string().max(64).describe('1 to 32 of a-z, 0-9 and -') }),
  output: z.strictObject({ name: z.string(), isOwn: z.boolean() }),
})

export const removeDevice = defineAction({
  name: 'device.remove',
  summary: 'Remove a paired device: it is out at once',
  permission: 'write',
  input: named,
  output: z.strictObject({ id: z.string() }),
})

export const rotateDeviceKeys = defineAction({
  name: 'device.rotate',
  summary: 'Make new keys for this device and tell the paired ones',
  permission: 'write',
  input: z.strictObject({}),
  output: z.strictObject({ generation: z.number() }),
})
