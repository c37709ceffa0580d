import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { hostname, tmpdir, userInfo } from 'node:os'
import path from 'node:path'
import test from 'node:test'
import type { Status } from '#api/table.ts'
import { parseConfig } from '#daemon/config.ts'
import { makeReport } from './report.ts'

const ID = '1f0c'.repeat(16)
const ADDRESS = '203.0.113.77'

const STATUS: Status = {
  ...{ role: 'client', state: 'ready', version: '1.2.3', pid: 4_242, uptimeMs: 5_000, nodeId: ID, directory: 6 },
  ...{ listening: { proxy: [`${ADDRESS}:1080`] }, sessions: 3, flows: 0, streams: 1, memoryBytes: 1_000 },
  routes: [
    {
      ...{ isolation: 'feedbeef', state: 'ready', rttMs: 12, streams: 1 },
      hops: [{ id: ID, address: `${ADDRESS}:51821`, operator: 'alice' }],
    },
  ],
  counters: { datagramsIn: 10, dropForged: 2, roamed: 0 },
  ...{ problem: `${ADDRESS} does not answer`, advice: `ask alice` },
}

function report(t: { after(end: () => void): void }) {
  const folder = mkdtempSync(path.join(tmpdir(), 'hoplite-report-'))
  t.after(() => rmSync(folder, { recursive: true }))
  const log = path.join(folder, 'daemon.log')
  const at = { time: '2026-03-01T07:41:02.512Z', level: 'warn', component: 'client' }
  const lines = [
    JSON.stringify({ ...at, event: 'hop failed', id: ID }),
    JSON.stringify({ ...at, event: 'route lost', reason: 'the exit is silent', silentMs: 900 }),
    JSON.stringify({ ...at, event: 'client is up', proxy: `${ADDRESS}:1080` }),
    `hoplite: read /home/alice/hoplite.toml: nothing`,
    '{"half":"a li',
  ]
  writeFileSync(log, `${lines.join('\n')}\n`)
  const config = parseConfig(
    `[client]\nhops = 2\nproxy = "${ADDRESS}:1080"\n[relay]\noperator = "alice"\n[log]\nlevel = "debug"\n`,
    'test',
  )
  const findings = [
    { check: 'runtime', verdict: 'ok', found: 'Node 26.10.0 on linux-x64' },
    { check: `bootstrap ${ADDRESS}`, verdict: 'warning', found: 'does not answer', fix: `ask alice` },
    { check: 'state', verdict: 'problem', found: '/home/alice/x is open to others', fix: 'chmod 700 /home/alice/x' },
  ] as const
  return makeReport(findings, config, STATUS, log)
}

test('a report has no address, name, id or path', t => {
  const text = JSON.stringify(report(t))
  for (const personal of [ADDRESS, 'alice', ID, 'feedbeef', '/home', '4242', tmpdir(), hostname(), userInfo().homedir])
    assert.ok(personal.length < 2 || !text.includes(personal), `${personal} in ${text}`)
})

test('a report has versions, verdicts, what was configured, counters and what happened', t => {
  const { findings, configuration, status, log } = report(t)
  assert.deepEqual(findings, [
    { check: 'runtime', verdict: 'ok', found: 'Node 26.10.0 on linux-x64' },
    { check: 'bootstrap', verdict: 'warning' },
    { check: 'state', verdict: 'problem' },
  ])
  assert.deepEqual(configuration, {
    'client.hops': 2,
    'client.proxy': 'length 17',
    'relay.operator': 'length 5',
    'log.level': 'debug',
  })
  assert.deepEqual(status?.['counters'], { datagramsIn: 10, dropForged: 2 })
  assert.deepEqual(
    log.map(({ event, reason, silentMs }) => [event, reason, silentMs]),
    [
      ['hop failed', undefined, undefined],
      ['route lost', 'the exit is silent', 900],
      ['client is up', undefined, undefined],
    ],
  )
})
