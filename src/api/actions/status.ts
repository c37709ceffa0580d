import { z } from 'zod'
import { defineAction } from '../action.ts'

const hop = z.strictObject({ id: z.string(), address: z.string(), operator: z.string() })

/** What one route is doing. */
const route = z.strictObject({
  /** '' is the route of streams without credentials; others are hashes of them. */
  isolation: z.string(),
  state: z.enum(['building', 'ready', 'moving', 'waiting']),
  hops: z.array(hop),
  /** The hops of the way kept ready. */
  spare: z.array(hop).optional(),
  rttMs: z.number().optional(),
  streams: z.number(),
  problem: z.string().optional(),
})

export const status = defineAction({
  name: 'status',
  summary: 'What this node is doing',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    role: z.enum(['client', 'relay', 'bootstrap', 'rendezvous']),
    state: z.enum(['starting', 'building', 'ready', 'moving', 'failed']),
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
    counters: z.record(z.string(), z.number()),
    memoryBytes: z.number(),
    problem: z.string().optional(),
    advice: z.string().optional(),
  }),
})
