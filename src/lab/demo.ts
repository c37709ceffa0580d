// The demo: a whole network on this machine, a page through three hops, and who saw what, as each process recorded it.

import { randomBytes } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { request } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { callAction } from '#api/client.ts'
import { openBrowser } from '#cli/open-browser.ts'
import { socketPath } from '#platform/state/directories.ts'
import { type IssuerProcess, startIssuerProcess } from './credits/issuer-process.ts'
import { type Fetched, fetchThrough } from './socks-client.ts'
import { SIX_RELAYS, type TestNode, Testnet, waitFor } from './testnet.ts'

const VOUCHER = 20
const REDEEM_MS = 60_000
/** Credits for a GiB: one pays for 16 MiB, so a page costs one at each hop. */
const PRICE = 64

export interface DemoOptions {
  readonly port: number
  readonly once: boolean
  readonly json: boolean
}

/** What one process recorded of itself. */
export interface Observed {
  readonly process: string
  readonly role: string
  readonly saw: readonly string[]
  readonly couldRead: boolean
}

export interface DemoResult {
  readonly ok: boolean
  readonly hops: readonly { readonly id: string; readonly address: string; readonly operator: string }[]
  readonly fetch: { readonly status: number; readonly bytes: number; readonly sha256: string }
  readonly firstByteMs: number
  readonly observed: readonly Observed[]
  /** What was paid for it; absent where nothing is asked. */
  readonly credits?: DemoCredits
}

/** Credits of the wallet before and after, and what each relay was paid: a credit for each session with it. */
export interface DemoCredits {
  readonly before: number
  readonly after: number
  readonly earned: Readonly<Record<string, number>>
  /** Whether all sums of the issuer's books agree. */
  readonly booksAgree: boolean
}

/** Runs the demo until Ctrl-C, or once; returns the exit code. */
export async function runDemo(options: DemoOptions): Promise<number> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.once(signal, () => stop.abort())
  const say = (text: string) => {
    if (!options.json) process.stdout.write(`${text}\n`)
  }
  const startedMs = performance.now()
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-demo-'))
  let net: Testnet | undefined
  let issuer: IssuerProcess | undefined
  try {
    say('… starting an issuer of credits')
    issuer = await startIssuerProcess(directory)
    const credit = { url: issuer.url, id: issuer.id, price: PRICE, freeMib: 0, isDirect: true }
    const bank = issuer
    const prepare = (net: Testnet) => redeem(net, bank)
    const plan = {
      relays: SIX_RELAYS,
      hops: 3,
      proxyPort: options.port,
      observe: true,
      credit,
      prepare,
      startMs: 120_000,
    }
    net = await Testnet.start(plan, step => say(`… ${step}`))
    if (stop.signal.aborted) return 0
    say(
      `A network of ${net.nodes.length + 1} processes runs (${((performance.now() - startedMs) / 1000).toFixed(1)} s).\n`,
    )
    const fetched = await fetchAndAsk(net)
    const credits = await countCredits(net, issuer)
    const result = { ...fetched, ok: fetched.ok && credits.booksAgree, credits }
    if (options.json) process.stdout.write(`${JSON.stringify(result)}\n`)
    else {
      const { url } = await callAction(socketPath(net.client.stateDir), 'login', {})
      say(await describe(net, result, url))
      if (!options.once && process.stdout.isTTY) openBrowser(url)
    }
    if (!options.once)
      await new Promise<void>(resolve => stop.signal.addEventListener('abort', () => resolve(), { once: true }))
    return result.ok ? 0 : 1
  } catch (error) {
    if (stop.signal.aborted) return 0
    const message = error instanceof Error ? error.message : String(error)
    if (options.json) process.stdout.write(`${JSON.stringify({ ok: false, error: message })}\n`)
    else process.stderr.write(`The demo failed: ${message}\n`)
    return 1
  } finally {
    await net?.stop()
    await issuer?.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** A voucher for the client, as an operator would give or sell it. */
async function redeem(net: Testnet, issuer: IssuerProcess): Promise<void> {
  const { codes } = (await issuer.admin('vouchers', '--credits', String(VOUCHER))) as { codes: string[] }
  const redeemed = () =>
    callAction(socketPath(net.client.stateDir), 'redeemVoucher', { code: codes[0] ?? '' }, REDEEM_MS).catch(
      () => undefined,
    )
  await waitFor(redeemed, 'the voucher to be redeemed')
}

async function countCredits(net: Testnet, issuer: IssuerProcess): Promise<DemoCredits> {
  const { tokens: after } = await callAction(socketPath(net.client.stateDir), 'wallet', {})
  const earned: Record<string, number> = {}
  for (const { name, stateDir } of net.relays) {
    await callAction(socketPath(stateDir), 'handIn', {})
    earned[name] = (await callAction(socketPath(stateDir), 'earnings', {})).redeemed
  }
  const { faults } = (await issuer.admin('audit')) as { faults: unknown[] }
  return { before: VOUCHER, after, earned, booksAgree: faults.length === 0 }
}

/** Fetches a page with a marker in its path and asks every process whether it could read it. */
export async function fetchAndAsk(net: Testnet): Promise<DemoResult> {
  const marker = randomBytes(12).toString('hex')
  const nodes = net.nodes.filter(({ role }) => role !== 'origin')
  await Promise.all(nodes.map(node => callAction(socketPath(node.stateDir), 'observe', { marker })))
  const fetched = await fetchThrough(await net.proxy(), net.originHost, net.originHttpPort, `/page/${marker}`)
  const status = await net.status(net.client)
  const hops = status?.routes.find(({ isolation }) => isolation === '')?.hops ?? []
  const observed = await Promise.all(nodes.map(node => observationOf(net, node)))
  observed.push(await originObservation(net, marker))
  return {
    ok: fetched.status === 200 && hops.length === 3 && isPrivate(net, hops, observed, fetched),
    hops,
    fetch: { status: fetched.status, bytes: fetched.bytes, sha256: fetched.sha256 },
    firstByteMs: Math.round(fetched.firstByteMs * 10) / 10,
    observed,
  }
}

/** What the demo promises: only client, exit and origin could read the request; only client and guard saw each other. */
function isPrivate(net: Testnet, hops: DemoResult['hops'], observed: readonly Observed[], fetched: Fetched): boolean {
  const [guard, , exit] = hops.map(({ address }) => net.at(address)?.name)
  const sawBoth = observed.filter(
    ({ role, saw }) => role !== 'client' && saw.includes('client') && saw.includes('origin'),
  )
  const readers = observed.filter(({ couldRead }) => couldRead).map(({ process }) => process)
  const isReadByFew = readers.every(name => name === 'client' || name === 'origin' || name === exit)
  const origin = observed.find(({ role }) => role === 'origin')
  const sawOnlyExit = fetched.body.includes('You come from') && origin?.saw.every(name => name === exit) === true
  return isReadByFew && readers.includes('origin') && sawOnlyExit && guard !== exit && sawBoth.length === 0
}

async function observationOf(net: Testnet, node: TestNode): Promise<Observed> {
  const { addresses, markerInside, markerOnWire } = await callAction(socketPath(node.stateDir), 'observation', {})
  return { process: node.name, role: node.role, saw: named(net, addresses), couldRead: markerInside || markerOnWire }
}

async function originObservation(net: Testnet, marker: string): Promise<Observed> {
  const { addresses, paths } = await new Promise<{ addresses: string[]; paths: string[] }>((resolve, reject) => {
    const sent = request({ host: net.originHost, port: net.originHttpPort, path: '/observation' }, response => {
      const chunks: Buffer[] = []
      response.on('data', (chunk: Buffer) => chunks.push(chunk))
      response.on('end', () => resolve(JSON.parse(Buffer.concat(chunks).toString('utf8'))))
    })
    sent.on('error', reject)
    sent.end()
  })
  return {
    process: 'origin',
    role: 'origin',
    saw: named(net, addresses),
    couldRead: paths.some(path => path.includes(marker)),
  }
}

/** Addresses as the names of the processes they belong to, where they do. */
function named(net: Testnet, addresses: readonly string[]): string[] {
  return [...new Set(addresses.map(address => net.at(address)?.name ?? address))].sort()
}

async function describe(net: Testnet, result: DemoResult, url: string): Promise<string> {
  const { host, port } = await net.proxy()
  const origin = `http://${net.originHost}:${net.originHttpPort}/page`
  const roles = ['guard ', 'middle', 'exit  ']
  const width = Math.max(...result.observed.map(({ process }) => process.length))
  return [
    `Fetched a page of ${result.fetch.bytes} bytes, status ${result.fetch.status}, first byte after ${result.firstByteMs} ms.`,
    '',
    'The route:',
    ...result.hops.map((hop, i) => `  ${i + 1}  ${roles[i] ?? ''}  ${hop.address.padEnd(18)} operator ${hop.operator}`),
    '',
    'Who saw what (as each process recorded it):',
    ...result.observed.map(
      ({ process, couldRead, saw }) =>
        `  ${process.padEnd(width)}  ${couldRead ? 'READ THE REQUEST' : 'read nothing    '}  saw ${saw.join(', ') || 'nobody'}`,
    ),
    '',
    result.ok ? 'No process but the client saw both the client and the origin.' : 'A PROMISE DID NOT HOLD: see above.',
    '',
    'The dashboard of the client (the link works once, within five minutes):',
    `  ${url}`,
    '',
    ...describeCredits(result.credits),
    'Try it:',
    `  curl -x socks5h://${host}:${port} ${origin}`,
    `  curl -p -x http://${host}:${port} ${origin}`,
    `  chromium --proxy-server=socks5://${host}:${port} ${origin}`,
    '  (the demo network reaches its own origin and nothing else)',
    'Ctrl-C ends it and leaves nothing behind.',
  ].join('\n')
}

function describeCredits(credits: DemoCredits | undefined): string[] {
  if (credits === undefined) return []
  const { before, after, earned, booksAgree } = credits
  const paid = Object.entries(earned).filter(([, count]) => count > 0)
  return [
    `Credits: the client had ${before} and has ${after}; ${paid.map(([name, count]) => `${name} earned ${count}`).join(', ')}.`,
    `The issuer signed and redeemed them blinded: it cannot tell whose they were. Its books ${booksAgree ? 'agree' : 'DO NOT AGREE'}.`,
    '',
  ]
}
