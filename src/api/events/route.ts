import { z } from 'zod'
import { defineEvent } from '../action.ts'
import { hop } from '../actions/status.ts'

/** How far the client's main route is, in the order that a person sees it happen. */
export const routeEvent = defineEvent({
  name: 'route',
  summary: 'The main route of a client changed: how far it is built, its hops, and what is wrong',
  data: z.strictObject({
    state: z.enum(['off', 'relays', 'guard', 'middle', 'exit', 'testing', 'protected', 'healing', 'lost']),
    hops: z.array(hop).describe('The exit last; as far as they are chosen'),
    built: z.number().describe('How many hops have answered'),
    spare: z.array(hop).optional().describe('The hops of the way kept ready'),
    problem: z.string().optional(),
    advice: z.string().optional(),
  }),
})
