// The picture of the route: you, the hops, the internet, on a line; around it the other relays of the directory, where
// d3-force finds room for them. The spare way is drawn beneath.

import { forceCollide, forceSimulation, forceX, forceY, type SimulationNodeDatum } from 'd3-force'
import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import type { EventData, Output } from '#api/table.ts'
import { host, milliseconds } from '../format.ts'
import { texts } from '../texts.ts'
import { useMedia } from './media.ts'

/** Measures of the drawing. On a narrow screen there is room for names alone: the cards below have the rest. */
interface Measures {
  readonly width: number
  readonly height: number
  readonly margin: number
  /** Height of the route and of the spare way. */
  readonly line: number
  readonly spare: number
  /** Radius of a hop. */
  readonly hop: number
  /** How far from a hop its texts are. */
  readonly name: number
  readonly time: number
  readonly others: number
}
const WIDE: Measures = {
  ...{ width: 960, height: 300, margin: 90, line: 130, spare: 238, hop: 26, name: -58, time: 52, others: 60 },
}
const NARROW: Measures = {
  ...{ width: 400, height: 190, margin: 34, line: 72, spare: 146, hop: 17, name: -28, time: 36, others: 10 },
}
const NARROW_SCREEN = '(max-width: 640px)'
const TICKS = 120
/** As many others have their names beside them. */
const MAX_NAMED = 8
const NAME_ROOM = 30
/** Room that is kept free around a hop and its texts, in radii. */
const CLEAR = 2.8

interface Dot extends SimulationNodeDatum {
  readonly id: string
  readonly name: string
  readonly size: number
}

interface PictureProps {
  readonly route: EventData<'route'>
  readonly times: readonly (number | undefined)[]
  readonly relays: Output<'relays'>['relays']
}

export function PathPicture({ route, times, relays }: PictureProps): JSX.Element {
  const isNarrow = useMedia(NARROW_SCREEN)
  const measures = isNarrow ? NARROW : WIDE
  const { width, height, margin, line } = measures
  const { hops, built, spare = [] } = route
  const last = hops.length + 1
  const at = (i: number) => margin + ((width - 2 * margin) * i) / last
  const used = [...hops, ...spare].map(({ id }) => id)
  const free = relays.filter(({ id }) => !used.includes(id))
  const others = useMemo(() => place(free, measures, hops.length), [`${used.join()} ${relays.length} ${isNarrow}`])
  const isUp = route.state === 'protected' || route.state === 'testing'
  return (
    <svg
      class={`picture picture-${route.state} ${isNarrow ? 'picture-narrow' : ''}`}
      viewBox={`0 0 ${width} ${height}`}
      role="img"
      aria-label={texts.route.picture(hops.length)}
    >
      {others.map(({ id, name, x = 0, y = 0, size }) => (
        <g key={id}>
          <circle class="picture-other" cx={x} cy={y} r={size} />
          {isNamed(others, measures) && (
            <text class="picture-small" x={x} y={y + size + 15}>
              {name}
            </text>
          )}
        </g>
      ))}
      <SpareWay spare={spare} at={at} exit={hops.length} measures={measures} />
      {Array.from({ length: last }, (_, i) => (
        <line
          class={i < built || (isUp && i === last - 1) ? 'picture-line picture-done' : 'picture-line'}
          x1={at(i)}
          y1={line}
          x2={at(i + 1)}
          y2={line}
          key={i}
        />
      ))}
      <End x={at(0)} name={texts.home.you} measures={measures} />
      {hops.map((hop, i) => (
        <g key={hop.id}>
          <circle
            class={i < built ? 'picture-hop picture-answered' : 'picture-hop'}
            cx={at(i + 1)}
            cy={line}
            r={measures.hop}
          />
          <text class="picture-number" x={at(i + 1)} y={line + measures.hop * 0.27}>
            {i + 1}
          </text>
          <text class="picture-name" x={at(i + 1)} y={line + measures.name}>
            {hop.operator}
          </text>
          {!isNarrow && (
            <text class="picture-small" x={at(i + 1)} y={line + measures.name + 19}>
              {host(hop.address)}
            </text>
          )}
          <text class="picture-time" x={at(i + 1)} y={line + measures.time}>
            {milliseconds(times[i])}
          </text>
        </g>
      ))}
      <End x={at(last)} name={texts.home.internet} measures={measures} />
    </svg>
  )
}

interface SpareProps {
  readonly spare: NonNullable<EventData<'route'>['spare']>
  readonly at: (i: number) => number
  /** The position of the exit, where the spare way ends too. */
  readonly exit: number
  readonly measures: Measures
}

function SpareWay({ spare, at, exit, measures: { line, spare: y, hop } }: SpareProps): JSX.Element | null {
  if (spare.length === 0) return null
  const between = spare.map((_, i) => `L ${at(i + 1)} ${y}`).join(' ')
  return (
    <>
      <path class="picture-spare" d={`M ${at(0)} ${line} ${between} L ${at(exit)} ${line}`} />
      {spare.map(({ id, operator }, i) => (
        <g key={id}>
          <circle class="picture-spare-hop" cx={at(i + 1)} cy={y} r={hop / 3} />
          <text class="picture-small" x={at(i + 1)} y={y + hop / 3 + 18}>
            {operator}
          </text>
        </g>
      ))}
    </>
  )
}

function End({ x, name, measures: { line, hop } }: { x: number; name: string; measures: Measures }): JSX.Element {
  return (
    <g>
      <circle class="picture-end" cx={x} cy={line} r={hop / 2} />
      <text class="picture-name" x={x} y={line - hop / 2 - 14}>
        {name}
      </text>
    </g>
  )
}

/** Puts dots where they touch neither the route nor each other. */
function place(relays: PictureProps['relays'], measures: Measures, hops: number): Dot[] {
  const { width, height, margin, line, hop } = measures
  const dots: Dot[] = relays.slice(0, measures.others).map(({ id, operator, capacityKbit }, i) => ({
    id,
    name: operator,
    size: hop / 6 + Math.min(Math.log10(Math.max(capacityKbit, 1)), 6) / 2,
    x: margin + (((i + 0.5) * 0.618) % 1) * (width - 2 * margin),
    y: i % 2 === 0 ? hop : height - hop,
  }))
  const pinned: Dot[] = Array.from({ length: hops + 2 }, (_, i) => {
    const fx = margin + ((width - 2 * margin) * i) / (hops + 1)
    return { id: `pinned-${i}`, name: '', size: hop * CLEAR, fx, fy: line }
  })
  const force = forceSimulation([...dots, ...pinned])
    .force('x', forceX<Dot>(({ x = 0 }) => x).strength(0.05))
    .force('y', forceY<Dot>(height / 2).strength(0.01))
    .force(
      'apart',
      forceCollide<Dot>(({ size }) => size + (isNamed(dots, measures) ? NAME_ROOM : 8)),
    )
    .stop()
  force.tick(TICKS)
  const within = (value: number | undefined, most: number) => Math.min(Math.max(value ?? 0, 12), most - NAME_ROOM)
  return dots.map(dot => ({ ...dot, x: within(dot.x, width), y: within(dot.y, height) }))
}

/** Whether there is room for names. */
function isNamed(dots: readonly Dot[], measures: Measures): boolean {
  return measures === WIDE && dots.length <= MAX_NAMED
}
