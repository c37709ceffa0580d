// Route: the picture of the path, what each hop knows, and what may be changed.

import type { JSX } from 'preact'
import type { EventData } from '#api/table.ts'
import { countryName, milliseconds } from '../format.ts'
import { Icon } from '../icons.tsx'
import type { Live } from '../live.ts'
import { useAsked } from '../parts/asked.ts'
import { Notice } from '../parts/notice.tsx'
import { PageHead } from '../parts/page-head.tsx'
import { PathPicture } from '../parts/path-picture.tsx'
import { RouteChange } from '../parts/route-change.tsx'
import { Waiting } from '../parts/waiting.tsx'
import { texts } from '../texts.ts'

type Route = EventData<'route'>
type Hop = Route['hops'][number]
type Place = keyof typeof texts.route.knowledge

const HEALED_MS = 30_000

export function RoutePage({ live }: { live: Live }): JSX.Element {
  const changing = [live.status?.directory, live.route?.hops.length]
  const { value: relays, wrong, ask } = useAsked('relays', undefined, changing)
  const route = live.route
  const times = live.rtt?.hops.map(({ ms }) => ms) ?? []
  const hasHealed = live.failover !== undefined && Date.now() - live.failover.at < HEALED_MS
  return (
    <>
      <PageHead page="route">{texts.route.intro}</PageHead>
      {route?.state === 'healing' && (
        <Notice kind="warn" title={texts.states.healing.title}>
          <p>{texts.states.healing.text}</p>
        </Notice>
      )}
      {hasHealed && live.failover !== undefined && (
        <Notice kind="good" title={texts.states.protected.title}>
          <p>{texts.route.healed(live.failover.count, milliseconds(live.failover.silentMs))}</p>
        </Notice>
      )}
      {route === undefined || route.hops.length === 0 ? (
        <section class="card empty">
          <Icon name="route" size={40} />
          <p>{route === undefined || route.state === 'off' ? texts.route.none : texts.states[route.state].text}</p>
        </section>
      ) : (
        <>
          <section class="card picture-card">
            <PathPicture route={route} times={times} relays={relays?.relays ?? []} />
          </section>
          <ol class="hops">
            {route.hops.map((hop, i) => (
              <HopCard hop={hop} number={i + 1} place={placeOf(i, route.hops.length)} ms={times[i]} key={hop.id} />
            ))}
          </ol>
          <p class="spare-line">
            <strong>{texts.route.spare}:</strong>{' '}
            {route.spare === undefined
              ? texts.route.spareNone
              : `${route.spare.map(({ operator }) => operator).join(' → ')}. ${texts.route.spareText}`}
          </p>
        </>
      )}
      {relays === undefined ? (
        <Waiting wrong={wrong} />
      ) : (
        <RouteChange relays={relays} exit={route?.hops.at(-1)} onChanged={ask} isOff={route?.state === 'off'} />
      )}
    </>
  )
}

function placeOf(position: number, count: number): Place {
  if (count === 1) return 'only'
  return position === 0 ? 'guard' : position === count - 1 ? 'exit' : 'middle'
}

interface HopProps {
  readonly hop: Hop
  readonly number: number
  readonly place: Place
  readonly ms: number | undefined
}

function HopCard({ hop, number, place, ms }: HopProps): JSX.Element {
  const { knows, knowsNot } = texts.route.knowledge[place]
  return (
    <li class="card hop">
      <div class="hop-head">
        <span class="hop-number" aria-hidden="true">
          {number}
        </span>
        <div>
          <h2>{texts.route.roles[place]}</h2>
          <p class="wrap">{hop.operator}</p>
          {hop.country !== undefined && <p class="muted small">{texts.route.claims(countryName(hop.country))}</p>}
        </div>
      </div>
      <p class="row hop-address">
        <span class="muted small wrap">{hop.address}</span>
        <span class="pill">
          <span class="sr">{texts.home.roundTrip} </span>
          {milliseconds(ms)}
        </span>
      </p>
      <h3>{texts.route.knows}</h3>
      <ul class="knows">
        {knows.map(item => (
          <li key={item}>
            <Icon name="check" size={16} /> {item}
          </li>
        ))}
      </ul>
      <h3>{texts.route.knowsNot}</h3>
      <ul class="knows knows-not">
        {knowsNot.map(item => (
          <li key={item}>
            <Icon name="cross" size={16} /> {item}
          </li>
        ))}
      </ul>
    </li>
  )
}
