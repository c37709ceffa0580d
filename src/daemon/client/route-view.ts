// How far a route is, as a person sees it: from looking for relays to a tested way out. Derived, never kept.

import type { EventData } from '#api/table.ts'
import type { Route } from '#route/route.ts'
import type { RouteHop } from '#route/way.ts'
import { formatAddress } from '#wire/address.ts'
import { layersBefore } from './hop-pings.ts'

export type RouteView = EventData<'route'>

export interface RouteViewInput {
  /** Whether a route is wanted at all. */
  readonly isOn: boolean
  readonly route: Route | undefined
  /** Whether applications' streams have their place on the route. */
  readonly isReady: boolean
  readonly problem: string | undefined
  readonly advice: string
}

export function viewRoute({ isOn, route, isReady, problem, advice }: RouteViewInput): RouteView {
  if (!isOn) return { state: 'off', hops: [], built: 0, ...(problem !== undefined && { problem, advice }) }
  if (route === undefined) {
    const wasLost = problem?.startsWith('the route was lost') ?? false
    return {
      state: wasLost ? 'lost' : 'relays',
      hops: [],
      built: 0,
      ...(problem !== undefined && { problem, advice }),
    }
  }
  const before = layersBefore(route)
  const answered = before.filter(({ state }) => state === 'established').length
  const isBuilt = route.exitLayer.state === 'established'
  return {
    state: stateOf(route, isReady, answered, before.length),
    hops: route.hops.map(describeHop),
    built: answered + (isBuilt ? 1 : 0),
    ...(route.spareHops && { spare: route.spareHops.map(describeHop) }),
  }
}

function stateOf(route: Route, isReady: boolean, answered: number, wanted: number): RouteView['state'] {
  switch (route.state) {
    case 'building':
      if (answered >= wanted) return 'exit'
      return answered === 0 ? 'guard' : 'middle'
    case 'ready':
      // An echo of the exit has come all the way back: that is the test.
      return isReady && route.rttMs !== undefined ? 'protected' : 'testing'
    case 'moving':
      return 'healing'
    case 'lost':
    case 'closed':
      return 'lost'
  }
}

export function describeHop({ id, address, operator, country }: RouteHop): RouteView['hops'][number] {
  return { id, address: formatAddress(address), operator, ...(country !== undefined && { country }) }
}
