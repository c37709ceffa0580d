// The libp2p side of discovery, and the only module that knows libp2p. Servers (bootstrap nodes and relays) keep the
// directory, store descriptors in a Kademlia DHT and answer directory requests; clients only ask.
//
// js-libp2p's DHT does not run the selector on PUT, so the validator itself refuses what is older than what is known.

import { noise } from '@chainsafe/libp2p-noise'
import { yamux } from '@chainsafe/libp2p-yamux'
import { generateKeyPairFromSeed } from '@libp2p/crypto/keys'
import { identify } from '@libp2p/identify'
import type { Libp2p, Stream } from '@libp2p/interface'
import { type KadDHT, kadDHT, passthroughMapper, removePrivateAddressesMapper } from '@libp2p/kad-dht'
import { ping } from '@libp2p/ping'
import { tcp } from '@libp2p/tcp'
import { lpStream } from '@libp2p/utils'
import { type Multiaddr, multiaddr } from '@multiformats/multiaddr'
import { createLibp2p } from 'libp2p'
import { decodeDescriptor } from '#wire/descriptor.ts'
import { DIRECTORY_PROTOCOL, decodeDirectory, encodeDirectory, MAX_DIRECTORY_MESSAGE } from '#wire/directory.ts'
import type { Carrier } from './carrier.ts'
import { nodeIdOf, verifyDescriptor } from './descriptor.ts'
import type { Directory } from './directory.ts'
import { type LetterNetwork, letterCarriers, letterDht, letterServices } from './letters.ts'
import { answerDirectory, type DirectorySource, type RefreshReport, refreshDirectory } from './refresh.ts'

const KAD_PROTOCOL = '/hoplite/kad/1.0.0'
const PREFIX = 'hoplite'
const SYNC_MS = 60_000
const FIRST_SYNC_MS = 400
const YOUNG_MS = 1_000
const YOUNG_GROWTH = 1.25
const DIAL_MS = 5_000
const REQUEST_MS = 10_000
/** Sources asked in one refresh, when there are as many. */
const SOURCES = 4

export interface DiscoveryOptions {
  /** A publisher is a client that has a descriptor of its own. */
  readonly role: 'server' | 'client' | 'publisher'
  /** 32 secret bytes that give the libp2p peer id. */
  readonly seed: Uint8Array
  /** TCP addresses to listen on (servers). */
  readonly listen: readonly { readonly host: string; readonly port: number }[]
  /** Multiaddrs, each ending in a peer id. */
  readonly bootstrap: readonly string[]
  readonly directory: Directory
  /** Laboratories live on private addresses. */
  readonly allowPrivateAddresses: boolean
  readonly nowMs: () => number
  readonly random: (length: number) => Uint8Array
  /** Multiaddrs that others are told, without a peer id; what is listened on when absent. */
  readonly announce?: readonly string[]
  /** The address to dial from; the system's choice when absent. */
  readonly sendFrom?: string
  /** Multiaddrs to ask after the bootstrap nodes; relays drawn from the directory when absent. */
  readonly furtherSources?: () => readonly string[]
  /** To carry letters (servers) or post and read them (clients). */
  readonly letters?: LetterNetwork
  /** Laboratory only: gets the remote address of every connection. */
  readonly onConnection?: (address: { readonly host: string; readonly port: number }) => void
}

export interface DiscoveryNode {
  /** Own multiaddrs, with the peer id. */
  readonly addresses: readonly string[]
  readonly connections: number
  /** Ways for letters; none without `letters`. */
  readonly carriers: readonly Carrier[]
  /** Connects to the bootstrap nodes, where there is no connection to them. */
  join(): Promise<boolean>
  /** Puts a descriptor of our own into the directory and the DHT; returns how many peers stored it. */
  publish(descriptor: Uint8Array): Promise<number>
  /** Puts a descriptor by which we leave in the place of our own, for whoever is connected; how many peers stored it. */
  withdraw(descriptor: Uint8Array): Promise<number>
  /** Takes the whole directory from several sources. */
  refresh(signal?: AbortSignal): Promise<RefreshReport>
  close(): Promise<void>
}

/** Starts libp2p; a server listens and keeps its directory in step with its peers until it is closed. */
export async function startDiscovery(options: DiscoveryOptions): Promise<DiscoveryNode> {
  const { directory, nowMs, allowPrivateAddresses } = options
  const isServer = options.role === 'server'
  const mail = options.letters && letterDht(options.letters, nowMs, isServer)
  const node = await createLibp2p({
    privateKey: await generateKeyPairFromSeed('Ed25519', options.seed),
    addresses: {
      listen: options.listen.map(({ host, port }) => `/${host.includes(':') ? 'ip6' : 'ip4'}/${host}/tcp/${port}`),
      // Public addresses that libp2p finds itself are kept back until somebody has confirmed them; these are not.
      ...(options.announce !== undefined && { announce: [...options.announce] }),
    },
    transports: [tcp(options.sendFrom === undefined ? {} : { dialOpts: { localAddress: options.sendFrom } as never })],
    connectionEncrypters: [noise()],
    streamMuxers: [yamux()],
    connectionGater: { denyDialMultiaddr: () => false },
    connectionManager: {
      maxConnections: isServer ? 512 : 16,
      maxIncomingPendingConnections: 64,
      inboundConnectionThreshold: allowPrivateAddresses ? 200 : 10,
      dialTimeout: DIAL_MS,
    },
    services: {
      identify: identify({ protocolPrefix: PREFIX }),
      ping: ping({ protocolPrefix: PREFIX }),
      ...((options.role !== 'client' || mail !== undefined) && {
        dht: kadDHT({
          protocol: KAD_PROTOCOL,
          clientMode: !isServer,
          peerInfoMapper: allowPrivateAddresses ? passthroughMapper : removePrivateAddressesMapper,
          validators: {
            hoplite: async (key, value) => admitRecord(directory, key, value, nowMs()),
            ...mail?.validators,
          },
          selectors: { hoplite: (_key, records) => newestRecord(records), ...mail?.selectors },
        }),
      }),
      ...(options.letters && letterServices()),
    },
  })
  const { onConnection } = options
  if (onConnection !== undefined) {
    node.addEventListener('connection:open', ({ detail }) => {
      const [, , , , port] = detail.remoteAddr.toString().split('/')
      onConnection({ host: detail.remoteAddr.toString().split('/')[2] ?? '', port: Number(port) })
    })
  }
  const dht = (node.services as unknown as { dht?: KadDHT }).dht
  if (isServer) {
    await dht?.setMode('server')
    await node.handle(
      DIRECTORY_PROTOCOL,
      async stream => {
        await serve(stream, directory, nowMs).catch(() => stream.abort(new Error('directory request refused')))
      },
      { maxInboundStreams: 64 },
    )
  }
  // Clients connect to servers alone: a server that did not listen would carry nothing from one to the other.
  const carrying = { nowMs, random: options.random, carries: isServer }
  const carriers = options.letters === undefined ? [] : letterCarriers(options.letters, node, carrying)
  if (options.role === 'client') return new ClientNode(options, node, carriers)
  return new PublishingNode(options, node, carriers, dht)
}

class ClientNode implements DiscoveryNode {
  readonly carriers: readonly Carrier[]
  protected readonly options: DiscoveryOptions
  protected readonly node: Libp2p

  constructor(options: DiscoveryOptions, node: Libp2p, carriers: readonly Carrier[]) {
    this.options = options
    this.node = node
    this.carriers = carriers
  }

  get addresses(): readonly string[] {
    return this.node.getMultiaddrs().map(address => address.toString())
  }

  get connections(): number {
    return this.node.getConnections().length
  }

  async publish(_descriptor: Uint8Array): Promise<number> {
    return 0
  }

  async withdraw(_descriptor: Uint8Array): Promise<number> {
    return 0
  }

  async refresh(signal?: AbortSignal): Promise<RefreshReport> {
    const { directory, nowMs, random, bootstrap } = this.options
    return refreshDirectory({
      directory,
      nowMs,
      random,
      first: bootstrap.map(address => this.#source(address)),
      further: () => (this.options.furtherSources?.() ?? this.#anyRelays()).map(address => this.#source(address)),
      sources: SOURCES,
      ...(signal && { signal }),
    })
  }

  async join(): Promise<boolean> {
    const own = this.node.peerId.toString()
    const connected = new Set(this.node.getPeers().map(peer => peer.toString()))
    const away = this.options.bootstrap.filter(address => !address.endsWith(own) && !connected.has(peerOf(address)))
    await Promise.allSettled(
      away
        .map(parseMultiaddr)
        .map(target => target && this.node.dial(target, { signal: AbortSignal.timeout(DIAL_MS) })),
    )
    return this.connections > 0
  }

  async close(): Promise<void> {
    await Promise.allSettled(this.carriers.map(carrier => carrier.close()))
    await this.node.stop()
  }

  #anyRelays(): string[] {
    const { directory, nowMs } = this.options
    return directory.list(nowMs()).flatMap(relay => relay.control.slice(0, 1))
  }

  #source(address: string): DirectorySource {
    return {
      name: address,
      ask: async (request, signal) => {
        const limit = AbortSignal.any([AbortSignal.timeout(REQUEST_MS), ...(signal ? [signal] : [])])
        const target = parseMultiaddr(address)
        if (target === undefined) throw new Error('not a multiaddr')
        const stream = await this.node.dialProtocol(target, DIRECTORY_PROTOCOL, { signal: limit })
        try {
          const framed = lpStream(stream, { maxDataLength: MAX_DIRECTORY_MESSAGE })
          await framed.write(encodeDirectory(request), { signal: limit })
          const answer = await framed.read({ signal: limit })
          return decodeDirectory(answer.subarray())
        } finally {
          stream.close().catch(() => stream.abort(new Error('done')))
        }
      },
    }
  }
}

class PublishingNode extends ClientNode {
  readonly #dht: KadDHT | undefined
  readonly #own = new Map<string, Uint8Array>()
  #timer: NodeJS.Timeout
  #youngMs = YOUNG_MS
  #isClosed = false

  constructor(options: DiscoveryOptions, node: Libp2p, carriers: readonly Carrier[], dht: KadDHT | undefined) {
    super(options, node, carriers)
    this.#dht = dht
    this.#timer = setTimeout(() => this.#sync(), FIRST_SYNC_MS)
  }

  override async publish(descriptor: Uint8Array): Promise<number> {
    const id = this.#keep(descriptor)
    if (id === undefined) return 0
    await this.join()
    return this.#put(id, descriptor)
  }

  override async withdraw(descriptor: Uint8Array): Promise<number> {
    const id = this.#keep(descriptor)
    return id === undefined ? 0 : this.#put(id, descriptor)
  }

  override async close(): Promise<void> {
    this.#isClosed = true
    clearTimeout(this.#timer)
    await super.close()
  }

  /** Takes it for our own from now on; its node id. */
  #keep(descriptor: Uint8Array): string | undefined {
    const { directory, nowMs } = this.options
    directory.offer(descriptor, nowMs())
    const decoded = decodeDescriptor(descriptor)
    if (decoded === undefined) return undefined
    const id = nodeIdOf(decoded.fields.identityKey)
    this.#own.set(id, descriptor)
    return id
  }

  async #put(id: string, descriptor: Uint8Array): Promise<number> {
    // Alone, the DHT would look for peers until the time is up.
    if (this.connections === 0) return 0
    let stored = 0
    const key = Buffer.from(`/hoplite/${id}`)
    try {
      const signal = AbortSignal.timeout(REQUEST_MS)
      for await (const event of this.#dht?.put(key, descriptor, { signal }) ?? []) {
        if (event.name === 'PEER_RESPONSE' && event.messageName === 'PUT_VALUE') stored++
      }
    } catch {
      // A DHT without peers stores nothing; the next sync tries again.
    }
    return stored
  }

  /** Keeps in step with a few peers, and tells the DHT again about ourselves. */
  async #sync(): Promise<void> {
    const before = this.options.directory.version
    await this.join()
    if (this.#isClosed) return
    await this.refresh().catch(() => undefined)
    for (const [id, descriptor] of this.#own) await this.#put(id, descriptor)
    if (this.#isClosed) return
    const jitter = (this.options.random(1)[0] ?? 0) / 255
    // A young directory changes quickly, an old one slowly; one that nobody adds to is asked for less and less.
    const isYoung = this.options.directory.size < 3
    const isStill = this.options.directory.version === before
    this.#youngMs = isYoung && isStill ? Math.min(this.#youngMs * YOUNG_GROWTH, SYNC_MS) : YOUNG_MS
    this.#timer = setTimeout(() => this.#sync(), (isYoung ? this.#youngMs : SYNC_MS) * (0.75 + 0.5 * jitter))
  }
}

async function serve(stream: Stream, directory: Directory, nowMs: () => number): Promise<void> {
  const framed = lpStream(stream, { maxDataLength: 1024 })
  const signal = AbortSignal.timeout(REQUEST_MS)
  const request = decodeDirectory((await framed.read({ signal })).subarray())
  const answer = request && answerDirectory(directory, request, nowMs())
  if (answer === undefined) throw new Error('malformed directory request')
  await framed.write(encodeDirectory(answer), { signal })
  await stream.close({ signal })
}

/** Throws, as libp2p wants it, unless the record is a sound descriptor under its own key and no older than the known one. */
function admitRecord(directory: Directory, key: Uint8Array, value: Uint8Array, now: number): void {
  const checked = verifyDescriptor(value, now)
  if ('problem' in checked) throw new Error(`refuse a record: ${checked.problem}`)
  if (Buffer.from(key).toString('latin1') !== `/hoplite/${checked.id}`)
    throw new Error('refuse a record: another node id')
  const result = directory.offer(value, now)
  if (result !== 'accepted' && result !== 'known') throw new Error(`refuse a record: ${result}`)
}

function newestRecord(records: readonly Uint8Array[]): number {
  const sequences = records.map(record => decodeDescriptor(record)?.fields.sequence ?? -1)
  return sequences.indexOf(Math.max(...sequences))
}

function parseMultiaddr(text: string): Multiaddr | undefined {
  try {
    return multiaddr(text)
  } catch {
    return undefined
  }
}

/** The peer id at the end of a multiaddr. */
function peerOf(address: string): string {
  return address.slice(address.lastIndexOf('/') + 1)
}
