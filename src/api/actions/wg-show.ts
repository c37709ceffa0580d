import { z } from 'zod'
import { defineAction } from '../action.ts'

const peer = z.strictObject({
  /** Base64, as in a WireGuard file. */
  publicKey: z.string(),
  hasPresharedKey: z.boolean(),
  endpoint: z.string().optional(),
  allowedIps: z.array(z.string()),
  /** 0: never. */
  lastHandshakeUnixMs: z.number(),
  rxBytes: z.number(),
  txBytes: z.number(),
  /** 0: off. */
  persistentKeepaliveSeconds: z.number(),
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
