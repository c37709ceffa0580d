import { z } from 'zod'
import { defineAction } from '../action.ts'

const peer = z.strictObject({
  publicKey: z.string().describe('Base64, as in a WireGuard file'),
  hasPresharedKey: z.boolean(),
  endpoint: z.string().optional(),
  allowedIps: z.array(z.string()),
  lastHandshakeUnixMs: z.number().describe('0: never'),
  rxBytes: z.number(),
  txBytes: z.number(),
  persistentKeepaliveSeconds: z.number().describe('0: off'),
})

/** A WireGuard interface, without its secrets. */
export const wgInterface = z.strictObject({ name: z.string(), publicKey: z.string(), peers: z.array(peer) })

export const wgShow = defineAction({
  name: 'wgShow',
  summary: 'The WireGuard interfaces of this node, without their secrets',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    interfaces: z.array(wgInterface),
  }),
})
