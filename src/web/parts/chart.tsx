// Speed over time. uPlot draws it on a canvas; what it shows is said in words for who does not see it.

import type { JSX } from 'preact'
import { useEffect, useRef } from 'preact/hooks'
import type uPlot from 'uplot'
import 'uplot/dist/uPlot.min.css'
import { speed, speedMark } from '../format.ts'
import type { Live } from '../live.ts'
import { texts } from '../texts.ts'

const HEIGHT = 190
const MIN_SPAN_SECONDS = 90
/** The axis never shrinks below this, in bytes a second: a keepalive is no mountain. */
const MIN_SCALE = 12_500

export function SpeedChart({ history }: { history: Live['history'] }): JSX.Element {
  const place = useRef<HTMLDivElement>(null)
  const chart = useRef<uPlot | undefined>(undefined)
  const data = useRef(history)
  data.current = history
  useEffect(() => {
    const element = place.current
    if (element === null) return
    let isGone = false
    const draw = async () => {
      const { default: Plot } = await import('uplot')
      if (isGone) return
      chart.current?.destroy()
      chart.current = new Plot(optionsFor(element), asData(data.current), element)
    }
    void draw()
    const resized = new ResizeObserver(() => chart.current?.setSize({ width: element.clientWidth, height: HEIGHT }))
    resized.observe(element)
    const themed = new MutationObserver(() => void draw())
    themed.observe(document.documentElement, { attributeFilter: ['data-theme'] })
    return () => {
      isGone = true
      resized.disconnect()
      themed.disconnect()
      chart.current?.destroy()
      chart.current = undefined
    }
  }, [])
  useEffect(() => chart.current?.setData(asData(history)), [history])
  const [, received, sent] = history
  const label = texts.home.speedChart(speed(received.at(-1) ?? 0), speed(sent.at(-1) ?? 0))
  return <div class="chart" ref={place} role="img" aria-label={label} />
}

function asData([seconds, received, sent]: Live['history']): uPlot.AlignedData {
  return [[...seconds], [...received], [...sent]]
}

function optionsFor(element: HTMLElement): uPlot.Options {
  const style = getComputedStyle(element)
  const color = (name: string) => style.getPropertyValue(name).trim()
  const axis = { stroke: color('--muted'), font: '12px system-ui, sans-serif', ticks: { show: false } }
  return {
    width: element.clientWidth,
    height: HEIGHT,
    padding: [8, 24, 0, 0],
    legend: { show: false },
    cursor: { show: false },
    scales: {
      x: { time: true, range: (_, min, max) => [Math.min(min, max - MIN_SPAN_SECONDS), max] },
      y: { range: (_, __, max) => [0, Math.max(max * 1.15, MIN_SCALE)] },
    },
    axes: [
      { ...axis, grid: { show: false }, values: (_, splits) => splits.map(clock), space: 96, size: 30 },
      {
        ...axis,
        size: 76,
        grid: { stroke: color('--line'), width: 1 },
        values: (_, splits) => splits.map(value => (value === 0 ? '0' : speedMark(value))),
        space: 34,
      },
    ],
    series: [
      {},
      {
        label: texts.home.down,
        stroke: color('--chart-down'),
        width: 2,
        fill: color('--chart-down-fill'),
        points: { show: false },
      },
      { label: texts.home.up, stroke: color('--chart-up'), width: 2, points: { show: false } },
    ],
  }
}

function clock(seconds: number): string {
  return new Date(seconds * 1000).toLocaleTimeString([], {
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    hourCycle: 'h23',
  })
}
