// Measures from the client's host, as a process of its own: `probe.ts '{"verb": ..., "access": ...}'` prints its result as one line
// of JSON. One that another process has to act on in between says first that the time has come.

import { awaitOrigin, firstBytes } from './probes/first-byte.ts'
import { roundTrips } from './probes/round-trip.ts'
import { stall } from './probes/stall.ts'
import { throughput } from './probes/throughput.ts'
import type { Access } from './subject.ts'

export type ProbeRequest =
  | { readonly verb: 'await'; readonly limitMs: number }
  | { readonly verb: 'firstBytes'; readonly times: number }
  | { readonly verb: 'roundTrips'; readonly durationMs: number; readonly everyMs: number }
  | {
      readonly verb: 'throughput'
      readonly isInward: boolean
      readonly streams: number
      readonly durationMs: number
      readonly warmUpMs: number
    }
  | { readonly verb: 'stall'; readonly limitMs: number }

const { access, ...request } = JSON.parse(process.argv[2] ?? '') as ProbeRequest & { access: Access }
const say = (text: string) => process.stdout.write(`${text}\n`)
say(JSON.stringify(await measure(request as ProbeRequest)))
process.exit(0)

function measure(request: ProbeRequest): Promise<object> {
  switch (request.verb) {
    case 'await':
      say('asking')
      return awaitOrigin(access, request.limitMs)
    case 'firstBytes':
      return firstBytes(access, request.times)
    case 'roundTrips':
      return roundTrips(access, request)
    case 'throughput':
      return throughput(access, request)
    case 'stall':
      return stall(access, request.limitMs, () => say('flowing'))
  }
}
