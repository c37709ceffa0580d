import { z } from 'zod'
import { defineAction } from '../action.ts'
import { nodeStatus } from './status.ts'

const as = z.enum(['peer', 'relay']).describe('What this machine becomes')
const count = z.number().int().min(0)

export const shareStatus = defineAction({
  name: 'share.status',
  summary: 'What this machine carries for others, and within which limits',
  permission: 'read',
  input: z.strictObject({}),
  output: z.strictObject({
    state: z.enum(['off', 'starting', 'running', 'waiting', 'stopping', 'failed']),
    as: as.optional(),
    status: nodeStatus.optional(),
    publicAddresses: z
      .array(z.string())
      .describe('Addresses of this machine that others can reach; none where it stands behind a router'),
    problem: z.string().optional(),
    advice: z.string().optional(),
  }),
})

export const startShare = defineAction({
  name: 'share.start',
  summary:
    'Become a peer or a relay, within the limits of [peer]; while it runs: begin anew with the limits as they are now',
  permission: 'person',
  input: z.strictObject({ as }),
  output: shareStatus.output,
})

export const stopShare = defineAction({
  name: 'share.stop',
  summary: 'Carry nothing for others any more, from this moment on',
  permission: 'person',
  input: z.strictObject({}),
  output: shareStatus.output,
})

export const collectShare = defineAction({
  name: 'share.collect',
  summary: "Hand in what was earned, and draw it into this node's own wallet",
  permission: 'person',
  input: z.strictObject({}),
  output: z.strictObject({ collected: count, tokens: count }),
})
