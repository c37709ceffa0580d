// Keys and sections that other programs write into wg-quick files and that plain WireGuard can do without. Whatever is
// neither here nor WireGuard's own is an error: a misspelt key must not be passed over.

interface ForeignKey {
  readonly name: string
  /** The only value with which the packets are still WireGuard's. */
  readonly only?: string
}

/** By name in lower case. */
export const FOREIGN_KEYS: ReadonlyMap<string, ForeignKey> = byName([
  // WireGuard for Android: which apps use the tunnel.
  ...names('IncludedApplications', 'ExcludedApplications'),
  // WireSock: the same on Windows, and a proxy before the peer.
  ...names('AllowedApps', 'DisallowedApps', 'DisallowedIPs', 'VirtualAdapterMode', 'BypassLanTraffic'),
  ...names('Socks5Proxy', 'Socks5ProxyUsername', 'Socks5ProxyPassword', 'Socks5ProxyAllTraffic'),
  // TunSafe.
  ...names('BlockDNS', 'ExcludedIPs'),
  // wireproxy.
  ...names('CheckAlive', 'CheckAliveInterval'),
  // AmneziaWG: packets of noise, which a WireGuard peer drops.
  ...names('Jc', 'Jmin', 'Jmax', 'I1', 'I2', 'I3', 'I4', 'I5', 'J1', 'J2', 'J3', 'Itime'),
  // AmneziaWG: padding and message types.
  ...['S1', 'S2', 'S3', 'S4'].map(name => ({ name, only: '0' })),
  ...['H1', 'H2', 'H3', 'H4'].map((name, index) => ({ name, only: `${index + 1}` })),
])

/** By header in lower case: sections of wireproxy. */
export const FOREIGN_SECTIONS: ReadonlyMap<string, string> = new Map(
  ['Socks5', 'http', 'TCPClientTunnel', 'TCPServerTunnel', 'STDIOTunnel', 'UDPProxyTunnel'].map(name => [
    `[${name.toLowerCase()}]`,
    name,
  ]),
)

function names(...all: readonly string[]): readonly ForeignKey[] {
  return all.map(name => ({ name }))
}

function byName(keys: readonly ForeignKey[]): ReadonlyMap<string, ForeignKey> {
  return new Map(keys.map(key => [key.name.toLowerCase(), key]))
}
