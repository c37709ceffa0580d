// A peer in words: what its operator takes on, and what it does at this moment.

import type { PeerStatus } from '#api/table.ts'

/** What the limits of a peer are made of. */
type Limits = Pick<PeerStatus, 'rateKbit' | 'bytesPerDay' | 'maxClients' | 'hours'>

/** What one relays, sees, can be blamed for, and gives at most: read before anything is lent. */
export function peerStatement(limits: Limits): string {
  return `You lend your internet address to other people's WireGuard tunnels.

  You relay      Datagrams that their WireGuard has sealed, to and from their
                 VPN's server; on routes over two peers also to the next peer.
                 You hold no key to them, and nothing else is carried.
  You see        A client's address, a server's address, sizes and times. Not
                 what is sent, nor where it goes beyond the server.
  Others see     The VPN's server sees your address as its customer's. Websites
                 see the VPN's address, not yours. Your internet provider sees
                 traffic between you and VPN servers.
  Blame          Whoever asks the VPN where a customer came from is told of your
                 address. You cannot say who it was or what was done: you do not
                 know it, and keep no record. Services that are wary of VPN
                 users may become wary of your address.
  Never reached  Private, loopback, multicast and reserved addresses, your own,
                 and what does not prove to be a WireGuard server: before it
                 has, three handshakes at most go out to it.
  Limits         ${describeLimits(limits)}.
                 They stand in [peer] of hoplite.toml. Ctrl-C ends it at once.
`
}

/** One line on what a peer does now. */
export function describePeer(peer: PeerStatus): string {
  const { clients, maxClients, flows, bytesOut, bytesIn, bytesToday, bytesPerDay, closed } = peer
  const parts = [
    `${clients} of ${maxClients} clients`,
    `${flows} flows`,
    `${amount(bytesOut)} out`,
    `${amount(bytesIn)} in`,
    `today ${amount(bytesToday)} of ${amount(bytesPerDay)}`,
  ]
  if (closed !== undefined)
    parts.push(closed === 'volume' ? 'closed until midnight' : `closed, open ${describeHours(peer.hours)}`)
  const refused = Object.entries(peer.refused).map(([reason, count]) => `${REASONS[reason] ?? reason} ${count}`)
  if (refused.length > 0) parts.push(`refused: ${refused.join(', ')}`)
  return parts.join(', ')
}

const REASONS: Readonly<Record<string, string>> = {
  address: 'address not allowed',
  volume: 'volume used',
  hours: 'outside the hours',
  clients: 'too many clients',
  clientsOfAddress: 'too many clients of an address',
  flowsOfClient: 'too many flows of a client',
  flowsOfServer: 'too many flows to a server',
  opens: 'opened too often',
}

function describeLimits({ rateKbit, bytesPerDay, maxClients, hours }: Limits): string {
  const clients = `${maxClients} ${maxClients === 1 ? 'client' : 'clients'} at once`
  return `${(rateKbit / 1000).toLocaleString('en')} Mbit/s, ${amount(bytesPerDay)} a day, ${clients}, ${describeHours(hours)}`
}

function describeHours(hours: string): string {
  return hours === '' ? 'at all hours' : `from ${hours.replace('-', ' to ')} o’clock`
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

function amount(bytes: number): string {
  const power = bytes < 1024 ? 0 : Math.min(UNITS.length - 1, Math.floor(Math.log2(bytes) / 10))
  return `${(bytes / 1024 ** power).toFixed(power === 0 ? 0 : 1).replace(/\.0$/, '')} ${UNITS[power]}`
}
