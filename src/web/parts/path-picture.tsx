// The picture of the route: you, the hops, the internet, on a line; around it the other relays of the directory, where
// d3-force finds room for them. The spare way is drawn beneath.

import { forceCollide, forceSimulation, forceX, forceY, type SimulationNodeDatum } from 'd3-force'
import type { JSX } from 'preact'
import { useMemo } from 'preact/hooks'
import type { EventData, Output } from '#api/table.ts'
import { host, milliseconds } from '../format.ts'
import { texts } from '../texts.ts'

const WIDTH = 960
const HEIGHT = 300
const LINE_Y = 130
const SPARE_Y = 238
const MARGIN = 90
const TICKS = 120
const MAX_OTHERS = 60

interface Dot extends SimulationNodeDatum {
  readonly id: string
  readonly size: number
}

interface PictureProps {
  readonly route: EventData<'route'>
  readonly times: readonly (number | undefined)[]
  readonly relays: Output<'relays'>['relays']
}

export function PathPicture({ route, times, relays }: PictureProps): JSX.Element {
  const { hops, built, spare = [] } = route
  const count = hops.length + 2
  const at = (i: number) => MARGIN + ((WIDTH - 2 * MARGIN) * i) / (count - 1)
  const used = [...hops, ...spare].map(({ id }) => id)
  const key = `${used.join()} ${relays.length}`
  const others = useMemo(() => place(relays.filter(({ id }) => !used.includes(id)), count), [key])
  const isUp = route.state === 'protected' || route.state === 'testing'
  return (
    <svg class={`picture picture-${route.state}`} viewBox={`0 0 ${WIDTH} ${HEIGHT}`} role="img" aria-label={texts.route.picture(hops.length)}>
      {others.map(({ id, x = 0, y = 0, size }) => (
        <circle class="picture-other" cx={x} cy={y} r={size} key={id} />
      ))}
      {spare.length > 0 && (
        <path class="picture-spare" d={spareLine([at(0), ...spare.map((_, i) => at(i + 1)), at(count - 2)])} />
      )}
      {spare.map(({ id, operator }, i) => (
        <g key={id}>
          <circle class="picture-spare-hop" cx={at(i + 1)} cy={SPARE_Y} r="9" />
          <text class="picture-small" x={at(i + 1)} y={SPARE_Y + 28}>
            {operator}
          </text>
        </g>
      ))}
      {Array.from({ length: count - 1 }, (_, i) => (
        <line
          class={i < built || (isUp && i === count - 2) ? 'picture-line picture-done' : 'picture-line'}
          x1={at(i)}
          y1={LINE_Y}
          x2={at(i + 1)}
          y2={LINE_Y}
          key={i}
        />
      ))}
      <End x={at(0)} name={texts.home.you} />
      {hops.map(({ id, operator, address }, i) => (
        <g key={id}>
          <circle class={i < built ? 'picture-hop picture-answered' : 'picture-hop'} cx={at(i + 1)} cy={LINE_Y} r="26" />
          <text class="picture-number" x={at(i + 1)} y={LINE_Y + 7}>
            {i + 1}
          </text>
          <text class="picture-name" x={at(i + 1)} y={LINE_Y - 58}>
            {operator}
          </text>
          <text class="picture-small" x={at(i + 1)} y={LINE_Y - 39}>
            {host(address)}
          </text>
          <text class="picture-time" x={at(i + 1)} y={LINE_Y + 52}>
            {milliseconds(times[i])}
          </text>
        </g>
      ))}
      <End x={at(count - 1)} name={texts.home.internet} />
    </svg>
  )
}

function End({ x, name }: { x: number; name: string }): JSX.Element {
  return (
    <g>
      <circle class="picture-end" cx={x} cy={LINE_Y} r="13" />
      <text class="picture-name" x={x} y={LINE_Y - 30}>
        {name}
      </text>
    </g>
  )
}

function spareLine([first = 0, ...rest]: readonly number[]): string {
  const last = rest.at(-1) ?? first
  const middle = rest.slice(0, -1).map(x => `L ${x} ${SPARE_Y}`)
  return `M ${first} ${LINE_Y} ${middle.join(' ')} L ${last} ${LINE_Y}`
}

/** Puts dots where they touch neither the route nor each other. */
function place(relays: PictureProps['relays'], count: number): Dot[] {
  const dots: Dot[] = relays.slice(0, MAX_OTHERS).map(({ id, capacityKbit }, i) => ({
    id,
    size: 4 + Math.min(Math.log10(Math.max(capacityKbit, 1)), 6),
    x: MARGIN + ((i * 0.618) % 1) * (WIDTH - 2 * MARGIN),
    y: i % 2 === 0 ? 30 : HEIGHT - 30,
  }))
  const pinned: Dot[] = Array.from({ length: count }, (_, i) => {
    const fx = MARGIN + ((WIDTH - 2 * MARGIN) * i) / (count - 1)
    return { id: `pin-${i}`, size: 74, fx, fy: LINE_Y }
  })
  const spread = forceX<Dot>(({ x = 0 }) => x).strength(0.05)
  const apart = forceCollide<Dot>(({ size }) => size + 8)
  forceSimulation([...dots, ...pinned])
    .force('x', spread)
    .force('y', forceY<Dot>(HEIGHT / 2).strength(0.01))
    .force('apart', apart)
    .stop()
    .tick(TICKS)
  const within = (value: number | undefined, most: number) => Math.min(Math.max(value ?? 0, 12), most - 12)
  return dots.map(dot => ({ ...dot, x: within(dot.x, WIDTH), y: within(dot.y, HEIGHT) }))
}
