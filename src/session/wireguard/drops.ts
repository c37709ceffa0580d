// Why a WireGuard device let a packet go, counted: a packet that is not carried leaves nothing else behind.

export const DROP_REASONS = [
  // Datagrams from the network.
  'malformed',
  'unknownIndex',
  'expiredKeys',
  'replayedCounter',
  'forgedPacket',
  'innerMalformed',
  'sourceNotAllowed',
  // Handshake messages.
  'badMac1',
  'rateLimited',
  'cookieDemanded',
  'forgedHandshake',
  'unknownPeer',
  'replayedInitiation',
  'initiationFlood',
  'forgedCookieReply',
  // Packets for the network.
  'noPeer',
  'noEndpoint',
  'noRoom',
  'stagedOverflow',
  'gaveUp',
  'closed',
] as const

export type DropReason = (typeof DROP_REASONS)[number]

/** How often each reason was met. */
export type DropCounts = Readonly<Record<DropReason, number>>

export function makeDropCounts(): Record<DropReason, number> {
  return Object.fromEntries(DROP_REASONS.map(reason => [reason, 0])) as Record<DropReason, number>
}
