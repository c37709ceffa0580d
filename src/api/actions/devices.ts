import { z } from 'zod'
import { defineAction } from '../action.ts'

const device = z.strictObject({
  id: z.string(),
  name: z.string(),
  ipv6: z.string(),
  /** Absent where another device had the same address first. */
  ipv4: z.string().optional(),
  /** How often its keys have changed, and once. */
  generation: z.number(),
})
/** What this device offers, and to whom: names, or `*` for all. */
const offer = z.strictObject({
  /** A network, or `internet`. */
  network: z.string(),
  to: z.array(z.string()),
  /** Whether the configuration says so, and it cannot be withdrawn here. */
  isSetting: z.boolean(),
})
/** What a paired device offers to this one. */
const offered = z.strictObject({
  /** A network, or `internet`. */
  network: z.string(),
  isAccepted: z.boolean(),
  /** Whether packets go there now. */
  isInUse: z.boolean(),
  /** Why it cannot be accepted, or is not in use though it is. */
  problem: z.string().optional(),
})
const named = z.strictObject({ device: z.string().max(64) })

export const devices = defineAction({
  name: 'devices',
  summary: 'This device and those paired with it',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    own: device.extend({
      offers: z.array(offer),
      /** Why what is offered is not to be had. */
      problem: z.string().optional(),
    }),
    devices: z.array(
      device.extend({
        pairedMs: z.number(),
        isConfirmed: z.boolean(),
        /** What it calls itself, where that is not its name here. */
        ownName: z.string().optional(),
        offered: z.array(offered),
        /** How packets go there; absent while there is no way. */
        path: z.enum(['direct', 'relayed', 'turn']).optional(),
        /** Whether the tunnel has keys. */
        isUp: z.boolean(),
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
        /** What its file leads to, besides this device: networks, `internet`, `devices`. */
        reaches: z.array(z.string()),
        /** Why it needs another file. */
        problem: z.string().optional(),
      }),
    ),
    /** The network interface of the tunnels, where there is one. */
    interface: z.string().optional(),
  }),
})

export const renameDevice = defineAction({
  name: 'device.rename',
  summary: 'Call this device something else everywhere, or a paired one here',
  permission: 'write',
  input: named.extend({ name: z.string().max(64) }),
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
