// `npm run bench [-- --json]`: how fast things are on this machine. Nothing here passes or fails.

import { cpus } from 'node:os'
import { parseArgs } from 'node:util'
import { openInPlace, sealInPlace } from '#crypto/aead.ts'
import { systemRandom } from '#crypto/random.ts'
import { generateIdentity } from '#crypto/signature.ts'
import { generateX25519 } from '#crypto/x25519.ts'
import { VERSION } from '#daemon/version.ts'
import { makeDescriptor, verifyDescriptor } from '#discover/descriptor.ts'
import { finish, hopKeys, initiate, respond } from '#session/hop-handshake.ts'
import { WireGuardDevice } from '#session/wireguard/device.ts'
import { fetchThrough, socksConnect } from '../socks-client.ts'
import type { RelayPlan } from '../testnet.ts'
import { SIX_RELAYS, stopNetworksOnSignal, Testnet } from '../testnet.ts'
import { inside4, ipPacket } from '../wireguard/wireguard-net.ts'
import { benchCredits } from './bench-credits.ts'
import { offloadRates } from './bench-offload.ts'
import { benchPaying } from './bench-paying.ts'
import { portRate } from './bench-port.ts'
import { measureRelay } from './bench-relay.ts'

/** Packets lie in large buffers, as in the data plane: those in small ones are sealed by libsodium. */
const BUFFER_BYTES = 64 * 1024

const { values } = parseArgs({ options: { json: { type: 'boolean', default: false } } })
stopNetworksOnSignal()
const figures: Record<string, number> = {}
const report = (name: string, value: number, unit: string) => {
  figures[`${name}${unit}`] = Math.round(value * 100) / 100
  if (!values.json)
    process.stdout.write(`${name.padEnd(36)} ${String(figures[`${name}${unit}`]).padStart(12)}  ${unit}\n`)
}

if (!values.json)
  process.stdout.write(
    `Hoplite ${VERSION}, Node ${process.versions.node}, ${cpus().length} x ${cpus()[0]?.model ?? ''}\n`,
  )
handshakes()
packets()
wireGuard()
offloads()
for (const hops of [1, 2, 3]) report(`port.hops${hops}`, portRate(hops), 'PacketsPerSecond')
descriptors()
await benchCredits(report, rate)
await benchPaying(report)
// The load comes through Linux's own calls.
if (process.platform === 'linux') await relayForwarding()
for (const hops of [1, 2, 3]) await route(hops)
if (values.json) process.stdout.write(`${JSON.stringify({ bench: 'hoplite', version: VERSION, figures })}\n`)
process.exit(0)

/** Operations per second of `run`, measured for about half a second after a warm-up. */
function rate(run: () => void, batch = 50): number {
  for (let i = 0; i < batch; i++) run()
  const startedMs = performance.now()
  let count = 0
  while (performance.now() - startedMs < 500) {
    for (let i = 0; i < batch; i++) run()
    count += batch
  }
  return count / ((performance.now() - startedMs) / 1000)
}

function handshakes(): void {
  const keys = hopKeys(generateX25519().privateKey)
  const begin = () => initiate({ staticPublic: keys.publicKey, localIndex: 1, random: systemRandom })
  const { message } = begin()
  report('handshake.initiate', rate(begin), 'PerSecond')
  report(
    'handshake.respond',
    rate(() => respond({ keys, message, localIndex: 2 })),
    'PerSecond',
  )
  report(
    'handshake.whole',
    rate(() => {
      const { message, state } = begin()
      const answer = respond({ keys, message, localIndex: 2 })
      if ('response' in answer) finish(state, answer.response)
    }, 10),
    'PerSecond',
  )
}

function packets(): void {
  const key = new Uint8Array(systemRandom(32))
  for (const length of [64, 1_172, 1_420]) {
    const buffer = Buffer.alloc(BUFFER_BYTES)
    report(
      `seal.${length}B`,
      rate(() => sealInPlace(key, 1, buffer, 0, length), 1_000),
      'PerSecond',
    )
    const sealed = Buffer.alloc(BUFFER_BYTES)
    sealInPlace(key, 1, sealed, 0, length)
    const copy = rate(() => sealed.copy(buffer, 0, 0, length + 16), 1_000)
    const both = rate(() => {
      sealed.copy(buffer, 0, 0, length + 16)
      openInPlace(key, 1, buffer, 0, length + 16)
    }, 1_000)
    report(`open.${length}B`, 1 / (1 / both - 1 / copy), 'PerSecond')
  }
}

/** Packets of 1,420 bytes through a WireGuard device: sealed only, and sealed and opened by another one. */
function wireGuard(): void {
  let isCarried = true
  const make = (other: () => WireGuardDevice<string>): WireGuardDevice<string> =>
    new WireGuardDevice<string>({
      privateKey: systemRandom(32),
      random: systemRandom,
      unixOffsetMs: Date.now(),
      outlet: {
        toEndpoint(_peer, _to, buffer, at, length) {
          if (isCarried) other().receive(buffer, at, length, 'other', 1)
        },
        toTunnel: () => undefined,
      },
      sameEndpoint: (a, b) => a === b,
      endpointBytes: endpoint => Buffer.from(endpoint),
    })
  const from: WireGuardDevice<string> = make(() => to)
  const to: WireGuardDevice<string> = make(() => from)
  const allowedIps = [{ address: new Uint8Array(4), bits: 0 }]
  from.setPeer({ publicKey: to.publicKey, endpoint: 'other', allowedIps }, 0)
  to.setPeer({ publicKey: from.publicKey, endpoint: 'other', allowedIps }, 0)
  const buffer = Buffer.alloc(BUFFER_BYTES)
  const packet = ipPacket(inside4(1), inside4(2), 1_420)
  const send = () => {
    buffer.set(packet, 16)
    from.send(buffer, 16, packet.length, 1)
  }
  rate(send, 1_000)
  const both = rate(send, 1_000)
  isCarried = false
  const sealed = rate(send, 1_000)
  report('wireguard.send', sealed, 'PacketsPerSecond')
  report('wireguard.receive', 1 / (1 / both - 1 / sealed), 'PacketsPerSecond')
}

/** Superpackets of a TUN with offloads. */
function offloads(): void {
  const { segment, coalesce } = offloadRates()
  report('tun.segment', segment, 'GbitPerSecond')
  report('tun.coalesce', coalesce, 'GbitPerSecond')
}

function descriptors(): void {
  const now = Date.now()
  const fields = {
    hopKey: generateX25519().publicKey,
    sequence: 1,
    publishedMs: now,
    expiresMs: now + 3_600_000,
    roles: ['guard' as const],
    addresses: [{ host: '192.0.2.1', port: 1 }],
    control: [],
    operator: 'bench',
    family: [],
    hasTunnel: false,
    exitPorts: [],
    capacityKbit: 1,
    software: 'bench',
  }
  const bytes = makeDescriptor(fields, generateIdentity())
  report(
    'descriptor.verify',
    rate(() => verifyDescriptor(bytes, now)),
    'PerSecond',
  )
}

const WORKERS = 4

/** Packets a second through one relay's data plane: one layer opened, out of a flow's socket, with 1,200-byte datagrams. */
async function relayForwarding(): Promise<void> {
  const cases = [
    { kind: 'portable', load: 'apart' },
    { kind: 'linux', load: 'apart' },
    { kind: 'linux', load: 'joined' },
    { kind: 'linux', load: 'apart', workers: WORKERS },
    { kind: 'linux', load: 'joined', workers: WORKERS },
  ] as const
  for (const relay of cases) {
    const { handedOver, ...figures } = await measureRelay(relay)
    const name = `relay.${relay.kind}.${relay.load}${'workers' in relay ? `.${relay.workers}workers` : ''}`
    report(name, figures.packetsPerSecond, 'PacketsPerSecond')
    report(name, figures.packetsPerCpuSecond, 'PacketsPerCpuSecond')
    if (!('workers' in relay)) continue
    report(name, figures.packetsPerBusiestSecond, 'PacketsPerSecondWithACoreEach')
    report(name, handedOver, 'HandedOver')
  }
}

/** Throughput, added round-trip time, start-up and memory over a number of hops. */
async function route(hops: number): Promise<void> {
  const relays: readonly RelayPlan[] = SIX_RELAYS
  const startedMs = performance.now()
  const net = await Testnet.start({ relays, hops, proxyPort: 0, observe: false, warmsUp: true })
  try {
    report(`route${hops}.start`, performance.now() - startedMs, 'Ms')
    const proxy = await net.proxy()
    await fetchThrough(proxy, net.originHost, net.originHttpPort, '/bytes/20000000')
    const one = await fetchThrough(proxy, net.originHost, net.originHttpPort, '/bytes/100000000')
    report(`route${hops}.download`, (one.bytes * 8) / 1e3 / one.totalMs, 'MbitPerSecond')
    const fourMs = performance.now()
    await Promise.all(
      [1, 2, 3, 4].map(() => fetchThrough(proxy, net.originHost, net.originHttpPort, '/bytes/25000000')),
    )
    report(`route${hops}.downloadFourStreams`, (1e8 * 8) / 1e3 / (performance.now() - fourMs), 'MbitPerSecond')
    report(`route${hops}.roundTripMedian`, await roundTrip(net), 'Ms')
    const status = await net.status(net.client)
    report(`route${hops}.clientMemory`, (status?.memoryBytes ?? 0) / 2 ** 20, 'MiB')
    const memories = await Promise.all(net.relays.map(async relay => (await net.status(relay))?.memoryBytes ?? 0))
    report(`route${hops}.relayMemoryMost`, Math.max(...memories) / 2 ** 20, 'MiB')
  } finally {
    await net.stop()
  }
}

/** Median round trip of one byte through an idle route, over an HTTP echo connection. */
async function roundTrip(net: Testnet): Promise<number> {
  const socket = await socksConnect(await net.proxy(), net.originHost, net.originHttpPort)
  const samples: number[] = []
  for (let i = 0; i < 200; i++) {
    const startedMs = performance.now()
    socket.write('GET /page HTTP/1.1\r\nHost: origin\r\n\r\n')
    await new Promise(resolve => socket.once('data', resolve))
    samples.push(performance.now() - startedMs)
  }
  socket.destroy()
  return samples.sort((a, b) => a - b)[100] ?? 0
}
