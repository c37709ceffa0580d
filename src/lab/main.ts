// `npm run lab -- NAME [--json]`: runs a scenario and prints what it measured. Exit code 0 only when every promise held.

import { parseArgs } from 'node:util'
import type { Report, Scenario } from './scenario.ts'
import { stopNetworksOnSignal } from './testnet.ts'

const SCENARIOS: Record<string, () => Promise<Scenario>> = {
  circuits: async () => (await import('./scenarios/circuits.ts')).circuits,
  credits: async () => (await import('./scenarios/credits.ts')).credits,
  'credits-crash': async () => (await import('./scenarios/credits-crash.ts')).creditsCrash,
  demo: async () => (await import('./scenarios/demo.ts')).demo,
  garbage: async () => (await import('./scenarios/garbage.ts')).garbage,
  leaks: async () => (await import('./scenarios/leaks.ts')).leaks,
  load: async () => (await import('./scenarios/load.ts')).load,
  deploy: async () => (await import('./scenarios/deploy.ts')).deploy,
  'nat-matrix': async () => (await import('./scenarios/nat-matrix.ts')).natMatrix,
  pair: async () => (await import('./scenarios/pair.ts')).pair,
  entry: async () => (await import('./scenarios/entry.ts')).entry,
  failover: async () => (await import('./scenarios/failover.ts')).failover,
  match: async () => (await import('./scenarios/match.ts')).match,
  tunnel: async () => (await import('./scenarios/tunnel.ts')).tunnel,
  service: async () => (await import('./scenarios/service.ts')).service,
  soak: async () => (await import('./scenarios/soak.ts')).soak,
  screens: async () => (await import('./scenarios/screens.ts')).screens,
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { json: { type: 'boolean', default: false }, size: { type: 'string' }, minutes: { type: 'string' } },
})
const [name = ''] = positionals
stopNetworksOnSignal()
const load = SCENARIOS[name]
if (load === undefined) {
  process.stderr.write(`Usage: npm run lab -- NAME [--json]\nScenarios: ${Object.keys(SCENARIOS).join(', ')}\n`)
  process.exit(64)
}
const say = (text: string) => {
  if (!values.json) process.stdout.write(`${text}\n`)
}
const report: Report = { failed: [], figures: {} }
try {
  const scenario = await load()
  await scenario({
    say,
    size: values.size === undefined ? undefined : Number(values.size),
    minutes: values.minutes === undefined ? undefined : Number(values.minutes),
    figure: (key, value) => {
      report.figures[key] = value
      say(`  ${key}: ${value}`)
    },
    promise: (text, held) => {
      say(`  ${held ? 'held  ' : 'BROKEN'}  ${text}`)
      if (!held) report.failed.push(text)
    },
  })
} catch (error) {
  report.failed.push(error instanceof Error ? error.message : String(error))
}
const ok = report.failed.length === 0
if (values.json)
  process.stdout.write(`${JSON.stringify({ lab: name, ok, failed: report.failed, figures: report.figures })}\n`)
else say(ok ? `${name}: every promise held` : `${name}: FAILED\n  ${report.failed.join('\n  ')}`)
process.exit(ok ? 0 : 1)
