// The ways for letters that the configuration names. libp2p is loaded only where letters go over it.

import { systemRandom } from '#crypto/random.ts'
import type { Carrier } from '#discover/carrier.ts'
import { Directory } from '#discover/directory.ts'
import { LineCarrier } from '#discover/line-carrier.ts'
import { isWildcard } from '#wire/address.ts'
import { Backoff, jittered } from '../backoff.ts'
import type { Config } from '../config.ts'
import { letterNetwork } from './letter-network.ts'

/** Connections to bootstrap nodes that were lost are made again this often. */
const JOIN_MS = 15_000
/** While none of the bootstrap nodes answers. */
const MAX_JOIN_MS = 10 * 60_000

export interface OpenCarriers {
  readonly carriers: readonly Carrier[]
  /** The one whose letters a person carries, where that is wanted. */
  readonly lines: LineCarrier | undefined
  /** Ends what the carriers stand on; they themselves are closed by who uses them. */
  close(): Promise<void>
}

/** Whether the configuration names any way at all. */
export function hasCarriers({ meet, network }: Config): boolean {
  return (
    meet.by_hand || meet.rendezvous.length > 0 || meet.folder !== '' || (meet.gossip && network.bootstrap.length > 0)
  )
}

/** Opens them; one that is out of reach now is tried again by itself. */
export async function openCarriers(config: Config): Promise<OpenCarriers> {
  const { meet, network } = config
  const lines = meet.by_hand ? new LineCarrier() : undefined
  const carriers: Carrier[] = lines === undefined ? [] : [lines]
  if (meet.folder !== '') {
    const { FolderCarrier } = await import('#discover/folder-carrier.ts')
    carriers.push(new FolderCarrier(meet.folder, Date.now))
  }
  if (meet.rendezvous.length > 0) {
    const { RendezvousCarrier } = await import('#discover/rendezvous-carrier.ts')
    carriers.push(...meet.rendezvous.map(url => new RendezvousCarrier(url)))
  }
  if (!meet.gossip || network.bootstrap.length === 0) return { carriers, lines, close: async () => undefined }
  const { startDiscovery } = await import('#discover/node.ts')
  const node = await startDiscovery({
    role: 'client',
    seed: systemRandom(32),
    listen: [],
    bootstrap: network.bootstrap,
    directory: new Directory(),
    allowPrivateAddresses: network.allow_private_addresses,
    nowMs: Date.now,
    random: systemRandom,
    letters: letterNetwork(config),
    ...(!isWildcard(config.client.bind) && { sendFrom: config.client.bind }),
  })
  const backoff = new Backoff({ firstMs: JOIN_MS, mostMs: MAX_JOIN_MS, random: systemRandom })
  let join: NodeJS.Timeout | undefined
  let isClosed = false
  const joinAgain = async () => {
    const isJoined = await node.join()
    if (isClosed) return
    if (isJoined) backoff.succeed()
    join = setTimeout(() => void joinAgain(), isJoined ? jittered(JOIN_MS, systemRandom) : backoff.fail())
  }
  await joinAgain()
  return {
    carriers: [...carriers, ...node.carriers],
    lines,
    close: async () => {
      isClosed = true
      clearTimeout(join)
      await node.close()
    },
  }
}
