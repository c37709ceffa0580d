import assert from 'node:assert/strict'
import test from 'node:test'
import type { Figures, Row } from './figures.ts'
import { withPart } from './page.ts'
import { renderTables } from './table.ts'

const FIGURES: Figures = {
  oneOutwardBitsPerSecond: 2_000e6,
  oneInwardBitsPerSecond: 1_000e6,
  fourOutwardBitsPerSecond: 3_000e6,
  fourInwardBitsPerSecond: 4_000e6,
  cpuSecondsPerGigabyte: 4,
  udpPacketsPerSecond: 100_000,
  idleMedianMs: 0.25,
  idleP99Ms: 1,
  loadedMedianMs: 20,
  loadedP99Ms: Infinity,
  largestPeakMemoryBytes: 2 ** 28,
}

function measured(name: string, title: string, hops: number, figures: Figures, failures: readonly string[] = []): Row {
  return { name, title, hops, version: '', outcome: { kind: 'measured', figures, failures, processes: [] } }
}

const ROWS: readonly Row[] = [
  measured('peer', 'Peer', 1, FIGURES),
  measured('hoplite-1', 'Hoplite', 1, { ...FIGURES, oneInwardBitsPerSecond: 3_000e6, cpuSecondsPerGigabyte: 2 }),
  measured('other', 'Other', 3, { longestStallMs: Infinity }, ['udpRate: run iperf3:\n no | route']),
  { name: 'absent', title: 'Absent', hops: 1, version: '', outcome: { kind: 'missing', reason: 'no absent in PATH' } },
]

test('a row has its figures in units, lost messages by name, and its slower direction as a ratio to the reference', () => {
  const [first = ''] = renderTables(ROWS, 'peer').split('\n\n')
  const lines = first.split('\n')
  assert.match(lines[0] ?? '', /single stream, to Peer \|$/)
  assert.equal(
    lines[3],
    '| Hoplite | 2,000 Mbit/s | 3,000 Mbit/s | 3,000 Mbit/s | 4,000 Mbit/s | 100,000 | 0.25 / 1.00 ms | 20 / lost ms | 2.0x |',
  )
  const cells = new Set(lines.map(line => line.split('|').length))
  assert.equal(cells.size, 1, 'every line has as many cells')
})

test('Hoplite is compared with peers over as many machines only', () => {
  const comparison = renderTables(ROWS, 'peer').split('\n\n')[2] ?? ''
  assert.deepEqual(comparison.split('\n').slice(2), ['| Hoplite | Peer | 2.0x | 1.0x | 0.50x | 1.0x | 1.0x |'])
})

test('what is missing or failed is named, with its reason on one line', () => {
  const text = renderTables(ROWS, 'peer')
  assert.ok(text.includes('| Absent | missing | – |'))
  assert.ok(text.includes('- Absent: missing: no absent in PATH'))
  assert.ok(text.includes('- Other: udpRate: run iperf3: no \\| route'))
  assert.ok(text.includes('| for good |'))
})

test('without the reference there are no ratios, and nothing to compare is no table', () => {
  const text = renderTables([measured('hoplite-1', 'Hoplite', 1, FIGURES)], 'peer')
  assert.ok(!text.includes('x |'))
  assert.equal(text.split('\n\n').length, 2)
})

test('the tables go between the markers of a page, again and again', () => {
  const page = 'before\n<!-- bench:peers begins: written by the command -->\nold\n<!-- bench:peers ends -->\nafter\n'
  const once = withPart(page, 'new')
  assert.equal(once, page.replace('old', '\nnew\n'))
  assert.equal(withPart(once ?? '', 'new'), once)
  assert.equal(withPart('no markers', 'new'), undefined)
})
