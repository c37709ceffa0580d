// For real: two processes in homes behind every pair of routers, relays on the internet between them, offers carried by this
// process. Needs Linux, root, `ip`, `nft` and `sysctl`; `turnserver` (coturn) for one case.

import type { ChildProcess } from 'node:child_process'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { addCarrierHome, addHome, HOME_KINDS, type Home, reboot } from '../home.ts'
import { type Host, missingForNamespaces, Namespaces } from '../netns.ts'
import type { Scenario } from '../scenario.ts'
import { hasTool } from '../skip.ts'

const PEER = fileURLToPath(new URL('../path-host.ts', import.meta.url))
const RELAY = fileURLToPath(new URL('../flow-relay.ts', import.meta.url))
const RELAYS = ['20.0.0.1', '20.0.0.2', '20.0.0.3'] as const
const TURN = '20.0.0.9'
const CREDENTIALS = { username: 'lab', password: 'lab' }
/** Offers take as long as a message over the rendezvous. */
const SIGNAL_MS = 100
const LIMIT_MS = 15_000

interface Line {
  readonly offer?: string
  readonly path?: string
  readonly received?: number
}

interface Result {
  outcome: 'direct' | 'relayed' | 'failed'
  firstByteMs: number
  directMs: number
  /** With mappings lost on the way: the longest time without a packet. */
  gapMs: number
}

export const natMatrix: Scenario = async ({ say, figure, promise }) => {
  const missing = missingForNamespaces('nft', 'sysctl')
  if (missing !== undefined) throw new Error(`this scenario needs ${missing} (Debian: iproute2 nftables procps)`)
  await using lab = new Namespaces()
  const internet = await lab.switch('inet')
  for (const [i, address] of RELAYS.entries()) {
    const host = await lab.host(`s${i}`)
    await lab.plug(host, internet, `${address}/8`)
    await ready(host.start(process.execPath, [RELAY, address], { stdio: ['ignore', 'pipe', 'ignore'] }))
  }
  const left: Home[] = []
  const right: Home[] = []
  for (const [i, kind] of HOME_KINDS.entries()) {
    left.push(await addHome(lab, internet, 1 + i, kind))
    right.push(await addHome(lab, internet, 101 + i, kind))
  }
  const first: number[] = []
  const direct: number[] = []
  const run = async (name: string, a: Home, b: Home, expected: 'direct' | 'relayed', options: PairOptions = {}) => {
    const result = await runPair(a, b, expected, options)
    const { outcome, firstByteMs, directMs, gapMs } = result
    const times = [`first byte ${firstByteMs} ms`, outcome === 'direct' ? `direct ${directMs} ms` : '']
    say(`  ${name.padEnd(42)} ${outcome.padEnd(8)} ${times.filter(Boolean).join(', ')}`)
    figure(`${name.replaceAll(' ', '_')}`, outcome)
    promise(`${name}: ${expected}`, outcome === expected)
    if (options.isRebooted) {
      figure(`${name.replaceAll(' ', '_')}_gapMs`, gapMs)
      promise(`${name}: packets flow again within 3 s`, gapMs < 3_000)
    }
    first.push(firstByteMs)
    if (outcome === 'direct') direct.push(directMs)
  }
  for (const [i, a] of left.entries()) {
    for (const [j, b] of right.entries()) {
      if (j < i) continue
      const isBlocked = a.kind === 'blocked' || b.kind === 'blocked'
      const isRelayed = isBlocked || (a.kind === 'symmetric' && b.kind === 'symmetric')
      await run(`${a.kind} and ${b.kind}`, a, b, isRelayed ? 'relayed' : 'direct')
    }
  }
  const carried = await addCarrierHome(lab, internet, 50, 'port-restricted')
  const restricted = right[HOME_KINDS.indexOf('port-restricted')] as Home
  const symmetric = left[HOME_KINDS.indexOf('symmetric')] as Home
  await run('carrier and port-restricted', carried, restricted, 'direct')
  await run('symmetric and carrier', symmetric, carried, 'direct')
  await run('port-restricted rebooted', left[2] as Home, restricted, 'direct', { isRebooted: true })
  await run('symmetric rebooted', symmetric, restricted, 'direct', { isRebooted: true })
  if (hasTool('turnserver')) {
    await startTurn(await publicHost(lab, internet, 'turn', TURN))
    const other = right[HOME_KINDS.indexOf('symmetric')] as Home
    await run('symmetric and symmetric by TURN', symmetric, other, 'relayed', { isTurn: true })
  } else say('  coturn is not installed: no TURN')
  figure('firstByteP95Ms', percentile(first, 0.95))
  figure('directP95Ms', percentile(direct, 0.95))
  promise('95 % of first bytes within 1 s', percentile(first, 0.95) < 1_000)
  promise('95 % of direct paths within 3 s', percentile(direct, 0.95) < 3_000)
}

interface PairOptions {
  readonly isRebooted?: boolean
  readonly isTurn?: boolean
}

let nextFlow = 20_000

async function runPair(a: Home, b: Home, expected: 'direct' | 'relayed', options: PairOptions): Promise<Result> {
  const start = (home: Home, isControlling: boolean): ChildProcess => {
    const setup = {
      isControlling,
      stun: RELAYS.map(address => `${address}:3478`),
      ...(options.isTurn
        ? { turn: { address: `${TURN}:3478`, ...CREDENTIALS } }
        : { relay: isControlling ? RELAYS[0] : RELAYS[1], flow: nextFlow++ }),
      isStreamOnly: home.kind === 'blocked',
    }
    return home.host.start(process.execPath, [PEER, JSON.stringify(setup)], { stdio: ['pipe', 'pipe', 'inherit'] })
  }
  const sides = [start(a, true), start(b, false)].map(child => ({ child, path: 'none', received: 0, lastMs: 0 }))
  const result: Result = { outcome: 'failed', firstByteMs: -1, directMs: -1, gapMs: 0 }
  let beganMs = Number.POSITIVE_INFINITY
  let rebootedMs = Number.POSITIVE_INFINITY
  const finished = new Promise<void>(resolve => {
    const timer = setTimeout(resolve, LIMIT_MS)
    const finish = () => {
      clearTimeout(timer)
      resolve()
    }
    for (const [i, side] of sides.entries()) {
      const other = sides[1 - i]
      createInterface({ input: side.child.stdout as NodeJS.ReadableStream }).on('line', text => {
        const now = performance.now()
        const line = JSON.parse(text) as Line
        // Measured from the first offer: what a process takes to start is not the network's.
        beganMs = Math.min(beganMs, now)
        if (line.offer !== undefined) {
          setTimeout(() => other?.child.stdin?.write(`${JSON.stringify({ offer: line.offer })}\n`), SIGNAL_MS)
        }
        if (line.path !== undefined) side.path = line.path
        if (line.received !== undefined) {
          if (now > rebootedMs) result.gapMs = Math.max(result.gapMs, now - Math.max(side.lastMs, rebootedMs))
          side.received = line.received
          side.lastMs = now
        }
        if (result.firstByteMs < 0 && sides.every(({ received }) => received > 0)) {
          result.firstByteMs = Math.round(now - beganMs)
        }
        const isDirect = sides.every(({ path }) => path === 'direct')
        if (result.directMs < 0 && isDirect) result.directMs = Math.round(now - beganMs)
        if (result.firstByteMs < 0 || (expected === 'direct' && result.directMs < 0)) return
        if (!options.isRebooted) return finish()
        if (rebootedMs === Number.POSITIVE_INFINITY) {
          rebootedMs = now + 1_000
          setTimeout(() => void Promise.all([reboot(a), reboot(b)]), 1_000)
          setTimeout(finish, 8_000)
        }
      })
    }
  })
  await finished
  const paths = sides.map(({ path }) => path)
  if (result.firstByteMs >= 0) result.outcome = paths.every(path => path === 'direct') ? 'direct' : 'relayed'
  result.gapMs = Math.round(result.gapMs)
  await Promise.all(sides.map(({ child }) => stop(child)))
  return result
}

async function publicHost(lab: Namespaces, internet: Host, name: string, address: string): Promise<Host> {
  const host = await lab.host(name)
  const link = await lab.plug(host, internet, `${address}/8`)
  // Coturn gives up an allocation whose packets have no way at all.
  await host.ip('route', 'add', 'default', 'dev', link)
  return host
}

async function startTurn(host: Host): Promise<void> {
  const { username, password } = CREDENTIALS
  const flags = ['-n', '--lt-cred-mech', '-u', `${username}:${password}`, '-r', 'lab', '-L', TURN, '-E', TURN]
  host.start('turnserver', [...flags, '--no-cli', '--no-tls', '--no-dtls', '--log-file', 'stdout', '--simple-log'])
  await new Promise(resolve => setTimeout(resolve, 1_000))
}

function ready(child: ChildProcess): Promise<void> {
  return new Promise((resolve, reject) => {
    child.stdout?.once('data', () => resolve())
    child.once('exit', () => reject(new Error('a relay of the laboratory did not start')))
  })
}

async function stop(child: ChildProcess): Promise<void> {
  const exited = new Promise(resolve => child.once('exit', resolve))
  child.stdin?.end()
  if (child.exitCode === null) await exited
}

function percentile(values: readonly number[], share: number): number {
  return values.toSorted((a, b) => a - b)[Math.floor(values.length * share)] ?? Number.POSITIVE_INFINITY
}
