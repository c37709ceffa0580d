// The tables of a run, in Markdown: what was measured, and how Hoplite compares with each peer that has as many hops.

import type { FigureName, Figures, Row } from './figures.ts'

interface Column {
  readonly title: string
  readonly show: (figures: Figures) => string
}

const NOTHING = '–'

/** The tables, with what is missing or failed named below them. `reference` is the row that the ratios of the first table are to. */
export function renderTables(rows: readonly Row[], reference: string): string {
  const base = figuresOf(rows.find(({ name }) => name === reference))
  const parts = [
    table(['', ...SPEED.map(({ title }) => title), `single stream, to ${titleOf(rows, reference)}`], rows, figures => [
      ...SPEED.map(({ show }) => show(figures)),
      ratio(slowerWay(figures), base && slowerWay(base)),
    ]),
    table(['', ...COST.map(({ title }) => title)], rows, figures => COST.map(({ show }) => show(figures))),
    comparison(rows),
    absences(rows),
  ]
  return parts.filter(part => part !== '').join('\n\n')
}

const SPEED: readonly Column[] = [
  { title: 'TCP out', show: figures => megabits(figures.oneOutwardBitsPerSecond) },
  { title: 'TCP in', show: figures => megabits(figures.oneInwardBitsPerSecond) },
  { title: '4 streams out', show: figures => megabits(figures.fourOutwardBitsPerSecond) },
  { title: '4 streams in', show: figures => megabits(figures.fourInwardBitsPerSecond) },
  { title: 'UDP packets/s', show: figures => thousands(figures.udpPacketsPerSecond) },
  { title: 'RTT idle p50 / p99', show: figures => pair(figures.idleMedianMs, figures.idleP99Ms) },
  { title: 'RTT loaded p50 / p99', show: figures => pair(figures.loadedMedianMs, figures.loadedP99Ms) },
]

const COST: readonly Column[] = [
  { title: 'CPU s per GB', show: figures => decimals(figures.cpuSecondsPerGigabyte) },
  { title: 'memory, client', show: figures => mebibytes(figures.clientPeakMemoryBytes) },
  { title: 'memory, largest process', show: figures => mebibytes(figures.largestPeakMemoryBytes) },
  { title: 'first byte', show: figures => milliseconds(figures.firstByteMs) },
  { title: 'first byte after start', show: figures => milliseconds(figures.firstByteAfterStartMs) },
  { title: 'stall, hop killed', show: figures => milliseconds(figures.longestStallMs) },
  { title: 'connections remade', show: figures => thousands(figures.connectionsAfterKill) },
]

function table(titles: readonly string[], rows: readonly Row[], cells: (figures: Figures) => string[]): string {
  const lines = rows.map(row => {
    const figures = figuresOf(row)
    const empty = titles.slice(1).map((_, i) => (i === 0 ? row.outcome.kind : NOTHING))
    return line([row.title, ...(figures === undefined ? empty : cells(figures))])
  })
  return [line(titles), line(titles.map((_, i) => (i === 0 ? '---' : '---:'))), ...lines].join('\n')
}

/** Every Hoplite row against every peer over as many machines; '' when there is no such pair. */
function comparison(rows: readonly Row[]): string {
  const lines = rows.flatMap(own =>
    rows.flatMap(peer => {
      const [ours, theirs] = [figuresOf(own), figuresOf(peer)]
      const isPair = own.hops === peer.hops && isHoplite(own) && !isHoplite(peer)
      if (!isPair || ours === undefined || theirs === undefined) return []
      const of = (name: FigureName) => ratio(ours[name], theirs[name])
      const cells = [ratio(slowerWay(ours), slowerWay(theirs)), of('udpPacketsPerSecond'), of('cpuSecondsPerGigabyte')]
      return [line([own.title, peer.title, ...cells, of('largestPeakMemoryBytes'), of('idleMedianMs')])]
    }),
  )
  if (lines.length === 0) return ''
  const titles = ['', 'to', 'single stream', 'UDP', 'CPU per GB', 'largest memory', 'idle RTT']
  return [line(titles), line(['---', '---', '---:', '---:', '---:', '---:', '---:']), ...lines].join('\n')
}

function absences(rows: readonly Row[]): string {
  const lines = rows.flatMap(({ title, outcome }) => {
    if (outcome.kind === 'measured') return outcome.failures.map(failure => `- ${title}: ${oneLine(failure)}`)
    return [`- ${title}: ${outcome.kind}: ${oneLine(outcome.reason)}`]
  })
  return lines.length === 0 ? '' : ['Not measured:', '', ...lines].join('\n')
}

function figuresOf(row: Row | undefined): Figures | undefined {
  return row?.outcome.kind === 'measured' ? row.outcome.figures : undefined
}

function isHoplite({ name }: Row): boolean {
  return name.startsWith('hoplite')
}

function titleOf(rows: readonly Row[], name: string): string {
  return rows.find(row => row.name === name)?.title ?? name
}

/** A single stream's throughput in the direction that is slower. */
function slowerWay({ oneOutwardBitsPerSecond: outward, oneInwardBitsPerSecond: inward }: Figures): number | undefined {
  return outward === undefined || inward === undefined ? undefined : Math.min(outward, inward)
}

function line(cells: readonly string[]): string {
  return `| ${cells.join(' | ')} |`
}

function ratio(value: number | undefined, base: number | undefined): string {
  if (value === undefined || base === undefined || !Number.isFinite(value / base)) return NOTHING
  return `${(value / base).toPrecision(2).replace(/e\+.*/, '')}x`
}

function megabits(value: number | undefined): string {
  return value === undefined ? NOTHING : `${Math.round(value / 1e6).toLocaleString('en')} Mbit/s`
}

function mebibytes(value: number | undefined): string {
  return value === undefined ? NOTHING : `${Math.round(value / 2 ** 20).toLocaleString('en')} MiB`
}

function thousands(value: number | undefined): string {
  return value === undefined ? NOTHING : Math.round(value).toLocaleString('en')
}

function decimals(value: number | undefined): string {
  return value === undefined ? NOTHING : value.toFixed(1)
}

function milliseconds(value: number | undefined): string {
  if (value === undefined) return NOTHING
  return value === Infinity
    ? 'for good'
    : `${value < 10 ? value.toFixed(2) : Math.round(value).toLocaleString('en')} ms`
}

function pair(median: number | undefined, p99: number | undefined): string {
  if (median === undefined || p99 === undefined) return NOTHING
  const show = (value: number) => (value === Infinity ? 'lost' : value.toFixed(value < 10 ? 2 : 0))
  return `${show(median)} / ${show(p99)} ms`
}

function oneLine(text: string): string {
  return text.replaceAll(/\s+/g, ' ').replaceAll('|', '\\|').slice(0, 200)
}
