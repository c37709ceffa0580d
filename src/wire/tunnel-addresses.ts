// The addresses of every client on its TUN. All have the same, so that nothing tells clients apart and a client's network is
// set up before its first packet; each exit puts addresses of its own in their place (packet/translate.ts).
//
// 192.0.0.2 is of the block that hosts of DS-Lite use towards their tunnel (RFC 6333 §5.7), never seen outside of it. The
// IPv6 prefix is a unique local one (RFC 4193), "hoplite" in ASCII behind fd.

export const CLIENT_ADDRESS_4 = '192.0.0.2'
export const CLIENT_ADDRESS_6 = 'fd68:6f70:6c69:7465::2'

/** Where clients ask for names: the exit puts a resolver of its own in its place. The other end of that block (RFC 6333 §5.7). */
export const TUNNEL_RESOLVER = '192.0.0.1'
