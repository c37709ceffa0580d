// `npm run bench:peers [-- --json] [--only NAME]... [--seconds N]`: Hoplite and its peers on one network, measured alike. A run of
// all of them writes its tables into docs/benchmarks.md. Nothing here passes or fails.

import { readFileSync, writeFileSync } from 'node:fs'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { missingForNamespaces } from '../netns.ts'
import type { Row } from './figures.ts'
import { describeMachine } from './machine.ts'
import { withPart } from './page.ts'
import { measure } from './run.ts'
import type { Subject } from './subject.ts'
import { bare } from './subjects/bare.ts'
import { hopliteSocks } from './subjects/hoplite-socks.ts'
import { hopliteTun } from './subjects/hoplite-tun.ts'
import { nebula } from './subjects/nebula.ts'
import { openvpn } from './subjects/openvpn.ts'
import { tor } from './subjects/tor.ts'
import { CURRENT_VARIABLE, nested, packaged } from './subjects/wireguard-go.ts'
import { renderTables } from './table.ts'
import { stopLabsOnSignal } from './topology.ts'

const DEFAULT_SECONDS = 3
const MOST_SECONDS = 60
const REFERENCE = nested(1).name
const PAGE = fileURLToPath(new URL('../../../docs/benchmarks.md', import.meta.url))
const SUBJECTS: readonly Subject[] = [
  ...[bare, packaged, nested(1), nested(2), nested(3), nebula, openvpn, tor],
  ...[1, 2, 3].map(hopliteSocks),
  ...[1, 2, 3].map(hopliteTun),
]

const { values } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    only: { type: 'string', multiple: true },
    seconds: { type: 'string', default: String(DEFAULT_SECONDS) },
  },
})
const seconds = Number(values.seconds)
const chosen = SUBJECTS.filter(({ name }) => values.only?.includes(name) ?? true)
const unknown = values.only?.find(name => !SUBJECTS.some(subject => subject.name === name))
if (unknown !== undefined || !(seconds >= 1 && seconds <= MOST_SECONDS)) {
  const names = SUBJECTS.map(({ name }) => name).join(', ')
  process.stderr.write(
    `Usage: npm run bench:peers -- [--json] [--only NAME]... [--seconds 1 to ${MOST_SECONDS}]\nNames: ${names}\n`,
  )
  process.exit(64)
}
const missing = missingForNamespaces('iperf3', 'sysctl')
if (missing !== undefined) {
  process.stderr.write(`measure the peers: ${missing} is missing\n`)
  process.exit(1)
}

stopLabsOnSignal()
const say = (text: string) => process.stderr.write(`${text}\n`)
if (process.env[CURRENT_VARIABLE] === undefined)
  say(`${CURRENT_VARIABLE} is not set: docs/benchmarks.md says what it is for`)
const machine = await describeMachine()
const rows: Row[] = []
for (const subject of chosen) {
  say(subject.title)
  const row = await measure(subject, { seconds, say })
  rows.push(row)
  if (row.outcome.kind !== 'measured') say(`  ${row.outcome.kind}: ${row.outcome.reason}`)
}

const report = [machineLine(machine), renderTables(rows, REFERENCE)].join('\n\n')
// JSON has no infinity; the word is what the table says.
const plain = (_: string, value: unknown) => (value === Infinity ? 'never' : value)
process.stdout.write(
  values.json ? `${JSON.stringify({ bench: 'peers', machine, seconds, rows }, plain)}\n` : `${report}\n`,
)
if (values.only === undefined) writePage(report)
process.exit(0)

function machineLine(text: string): string {
  const versions = [...new Set(rows.map(({ version }) => version).filter(version => version !== ''))]
  const date = new Date().toISOString().slice(0, 10)
  const sentences = [`${date}: ${text}`, ...(versions.length > 0 ? [versions.join(', ')] : [])]
  return `${sentences.join('. ')}. Each TCP run took ${seconds} s.`
}

function writePage(report: string): void {
  const page = withPart(readFileSync(PAGE, 'utf8'), report)
  if (page === undefined) say('docs/benchmarks.md has no place for the tables: nothing written')
  else writeFileSync(PAGE, page)
}
