// What libp2p needs to know to carry letters: gossipsub for those who are there, the DHT for those who are not.

import type { GossipSub } from '@libp2p/gossipsub'
import type { Libp2p } from '@libp2p/interface'
import type { KadDHT } from '@libp2p/kad-dht'
import type { Random } from '#crypto/random.ts'
import type { Carrier } from './carrier.ts'
import { GossipCarrier, gossipService } from './gossip-carrier.ts'
import { MAIL_PREFIX, MailboxCarrier, mailRecords } from './mailbox-carrier.ts'

/** What everybody on a network must have the same of. */
export interface LetterNetwork {
  /** Bits of a bucket's number, 0 to 6: fewer bits, more people in each. */
  readonly bits: number
  /** The least work in a letter. */
  readonly workBits: number
}

export function letterServices() {
  return { pubsub: gossipService() }
}

/** Validators and selectors for the DHT. */
export function letterDht({ bits, workBits }: LetterNetwork, nowMs: () => number, isStore: boolean) {
  const records = mailRecords({ bits, workBits, nowMs, isStore })
  return { validators: { [MAIL_PREFIX]: records.validate }, selectors: { [MAIL_PREFIX]: records.select } }
}

/** The carriers of a node that was made with these services; `carries` makes it pass on letters of every bucket. */
export function letterCarriers(
  network: LetterNetwork,
  node: Libp2p,
  options: { readonly nowMs: () => number; readonly random: Random; readonly carries: boolean },
): Carrier[] {
  const { pubsub, dht } = node.services as unknown as { pubsub: GossipSub; dht: KadDHT }
  const gossip = new GossipCarrier(pubsub, network.workBits, options.nowMs)
  if (options.carries) {
    for (let number = 0; number < 2 ** network.bits; number++)
      gossip.subscribe({ bits: network.bits, number }, () => undefined)
  }
  return [gossip, new MailboxCarrier(dht, () => node.getPeers().length, options.random)]
}
