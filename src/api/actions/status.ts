import { z } from 'zod'
import { defineAction } from '../action.ts'

export const hop = z.strictObject({
  id: z.string(),
  address: z.string(),
  operator: z.string(),
  /** Two letters, as the relay claims. */
  country: z.string().optional(),
})

/** What one route is doing. */
const route = z.strictObject({
  /** '' is the route of streams without credentials; others are hashes of them. */
  isolation: z.string(),
  state: z.enum(['building', 'ready', 'moving', 'waiting']),
  hops: z.array(hop),
  /** The hops of the way kept ready. */
  spare: z.array(hop).optional(),
  /** The WireGuard server that an entry leads to. */
  server: z.string().optional(),
  /** Of an entry: whether the server has answered through the peers in use. */
  isProven: z.boolean().optional(),
  /** An entry's further peers, and whether the server has answered through them. */
  spares: z.array(z.strictObject({ hops: z.array(hop), isProven: z.boolean() })).optional(),
  rttMs: z.number().optional(),
  streams: z.number(),
  problem: z.string().optional(),
})

/** What a peer lends, and what became of it. */
const peer = z.strictObject({
  clients: z.number(),
  maxClients: z.number(),
  flows: z.number(),
  /** To WireGuard servers and from them, since the node started. */
  bytesOut: z.number(),
  bytesIn: z.number(),
  /** Both together, on this day of the operator's calendar. */
  bytesToday: z.number(),
  bytesPerDay: z.number(),
  rateKbit: z.number(),
  /** Like "22-6"; empty for always. */
  hours: z.string(),
  /** Why nothing is carried at this time. */
  closed: z.enum(['volume', 'hours']).optional(),
  /** Flows that were not opened, by reason. */
  refused: z.record(z.string(), z.number()),
})

/** What is in the wallet, and what a relay took. */
const credits = z.strictObject({
  tokens: z.number(),
  /** On the way from the issuer or to it, or perhaps spent. */
  pending: z.number(),
  /** Of a relay: taken and not yet handed in, redeemed, and spent elsewhere before. */
  queued: z.number().optional(),
  redeemed: z.number().optional(),
  refused: z.number().optional(),
})

/** What the node has reached: how much it may have, or serve. */
const limit = z.strictObject({
  /** Like "open files". */
  name: z.string(),
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
  /** Addresses that this node listens on, by purpose. */
  listening: z.record(z.string(), z.array(z.string())),
  directory: z.number(),
  routes: z.array(route),
  sessions: z.number(),
  flows: z.number(),
  streams: z.number(),
  peer: peer.optional(),
  credits: credits.optional(),
  /** The interface of an entry's tunnel, and the longest packet that fits it or its client's, in bytes. */
  interface: z.string().optional(),
  mtu: z.number().optional(),
  /** Whether the firewall keeps in what that interface does not carry. */
  killSwitch: z.boolean().optional(),
  /** What `up --tun` was told of the whole machine's tunnel, as words of the command line. */
  flags: z.array(z.string()).optional(),
  /** The device of one's own that the whole machine goes through, in place of a route. */
  via: z.string().optional(),
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
