import { z } from 'zod'
import { defineAction } from '../action.ts'

export const hop = z.strictObject({
  id: z.string(),
  address: z.string(),
  operator: z.string(),
  country: z.string().optional().describe('Two letters, as the relay claims'),
})

/** What one route is doing. */
const route = z.strictObject({
  isolation: z.string().describe("'' is the route of streams without credentials; others are hashes of them"),
  state: z.enum(['building', 'ready', 'moving', 'waiting']),
  hops: z.array(hop),
  spare: z.array(hop).optional().describe('The hops of the way kept ready'),
  server: z.string().optional().describe('The WireGuard server that an entry leads to'),
  isProven: z.boolean().optional().describe('Of an entry: whether the server has answered through the peers in use'),
  spares: z
    .array(z.strictObject({ hops: z.array(hop), isProven: z.boolean() }))
    .optional()
    .describe("An entry's further peers, and whether the server has answered through them"),
  rttMs: z.number().optional(),
  streams: z.number(),
  problem: z.string().optional(),
})

/** What a peer lends, and what became of it. */
const peer = z.strictObject({
  clients: z.number(),
  maxClients: z.number(),
  flows: z.number(),
  bytesOut: z.number().describe('To WireGuard servers and from them, since the node started'),
  bytesIn: z.number(),
  bytesToday: z.number().describe("Both together, on this day of the operator's calendar"),
  bytesPerDay: z.number(),
  rateKbit: z.number(),
  hours: z.string().describe('Like "22-6"; empty for always'),
  closed: z.enum(['volume', 'hours']).optional().describe('Why nothing is carried at this time'),
  refused: z.record(z.string(), z.number()).describe('Flows that were not opened, by reason'),
})

/** What is in the wallet, and what a relay took. */
const credits = z.strictObject({
  tokens: z.number(),
  pending: z.number().describe('On the way from the issuer or to it, or perhaps spent'),
  queued: z
    .number()
    .optional()
    .describe('Of a relay: taken and not yet handed in, redeemed, and spent elsewhere before'),
  redeemed: z.number().optional(),
  refused: z.number().optional(),
})

/** What the node has reached: how much it may have, or serve. */
const limit = z.strictObject({
  name: z.string().describe('Like "open files"'),
  problem: z.string(),
  advice: z.string(),
})

export const nodeStatus = z.strictObject({
  role: z.enum(['client', 'entry', 'relay', 'peer', 'bootstrap', 'rendezvous']),
  state: z.enum(['off', 'starting', 'building', 'ready', 'moving', 'failed']),
  version: z.string(),
  pid: z.number(),
  uptimeMs: z.number(),
  nodeId: z.string().optional(),
  listening: z.record(z.string(), z.array(z.string())).describe('Addresses that this node listens on, by purpose'),
  directory: z.number(),
  routes: z.array(route),
  sessions: z.number(),
  flows: z.number(),
  streams: z.number(),
  peer: peer.optional(),
  credits: credits.optional(),
  interface: z
    .string()
    .optional()
    .describe("The interface of an entry's tunnel, and the longest packet that fits it or its client's, in bytes"),
  mtu: z.number().optional(),
  killSwitch: z.boolean().optional().describe('Whether the firewall keeps in what that interface does not carry'),
  flags: z
    .array(z.string())
    .optional()
    .describe("What `up --tun` was told of the whole machine's tunnel, as words of the command line"),
  via: z
    .string()
    .optional()
    .describe("The device of one's own that the whole machine goes through, in place of a route"),
  counters: z.record(z.string(), z.number()),
  memoryBytes: z.number(),
  user: z.number().describe('The user that the node runs as; 0 is root').optional(),
  helper: z.number().describe('The process that changes the network for it, as root').optional(),
  limits: z.array(limit).describe('Limits that are reached, or were within the last five minutes').optional(),
  problem: z.string().optional(),
  advice: z.string().optional(),
})

export const status = defineAction({
  name: 'status',
  summary: 'What this node is doing',
  permission: 'read',
  input: z.strictObject({}),
  output: nodeStatus,
})
