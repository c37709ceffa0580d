// What `hoplite status` says of a client's routes. Derived, never kept.

import type { HopliteError } from '#api/errors.ts'
import type { Status } from '#api/table.ts'
import type { ClientRoutes } from './client-routes.ts'
import { describeHop } from './route-view.ts'

type RoutesStatus = Pick<Status, 'role' | 'state' | 'routes' | 'sessions' | 'flows' | 'streams' | 'problem' | 'advice'>

/** `problem`: why the client is switched off, if it is; `advice`: what to do about a route that is missing. */
export function routesStatus(client: ClientRoutes, problem: HopliteError | undefined, advice: string): RoutesStatus {
  const { routes, isOn, isReady } = client
  const main = routes.find('')
  const missing = routes.problem('')
  const isThere = main?.state === 'ready' && isReady
  const state = !isOn ? 'off' : isThere ? 'ready' : main?.state === 'moving' ? 'moving' : 'building'
  return {
    role: 'client',
    state,
    routes: routes.keys.map(key => routeStatus(client, key)),
    sessions: client.sessionCount,
    flows: 0,
    streams: client.streamCount,
    ...(state === 'off' && problem && { problem: problem.message, advice: problem.advice }),
    ...(state === 'building' && missing !== undefined && { problem: missing, advice }),
  }
}

/** Of a machine that goes through a device of its own, and by no route. */
export function viaStatus({
  isUp,
  problem,
}: {
  readonly isUp: boolean
  readonly problem: string | undefined
}): Pick<Status, 'state' | 'problem' | 'advice'> {
  const advice = 'hoplite devices says how each is reached'
  return { state: isUp ? 'ready' : 'building', ...(problem !== undefined && { problem, advice }) }
}

/** What to do while there is no route. */
export function adviceFor(
  problem: string | undefined,
  hasBootstrap: boolean,
  directorySize: number,
  unaffordable: number,
): string {
  const isLost = problem?.startsWith('the route was lost') ?? false
  if (isLost) return 'another is tried by itself; if none comes up: hoplite doctor'
  if (unaffordable > 0) {
    const all = `${unaffordable} of ${directorySize} relays`
    return `${all} take credits of an issuer that is not yours: set issuer and issuer_id in [credit]`
  }
  if (directorySize > 0) return 'wait for more relays, or use fewer hops with --hops'
  if (!hasBootstrap) return 'set bootstrap in [network]: without it no relay can be found'
  return 'check the network connection and the bootstrap nodes: hoplite doctor'
}

function routeStatus({ routes, streams }: ClientRoutes, key: string): Status['routes'][number] {
  const route = routes.find(key)
  const problem = routes.problem(key)
  const state = route?.state
  const isKnown = state === 'building' || state === 'ready' || state === 'moving'
  return {
    isolation: key,
    state: isKnown ? state : 'waiting',
    hops: route?.hops.map(describeHop) ?? [],
    ...(route?.spareHops && { spare: route.spareHops.map(describeHop) }),
    ...(route?.rttMs !== undefined && { rttMs: route.rttMs }),
    streams: streams.streams(key),
    ...(route === undefined && problem !== undefined && { problem }),
  }
}
