// What the first bytes of a UDP datagram say it is. Types 1 to 4 are WireGuard's; hop handshakes take the next three.
//
//   type size   message
//   4    >= 32  transport (transport.ts)
//   5    1352   hop initiation (handshake.ts)
//   6    1228   hop response
//   7    64     hop cookie reply
//
// Three zero bytes follow the type.

export const HOP_HANDSHAKE = {
  initiation: 5,
  initiationBytes: 1352,
  response: 6,
  responseBytes: 1228,
  cookieReply: 7,
  cookieReplyBytes: 64,
} as const

/** Whether the datagram at `offset` has the type and the exact length of a hop handshake message. */
export function isHopHandshake(buffer: Uint8Array, offset: number, length: number): boolean {
  if (buffer[offset + 1] !== 0 || buffer[offset + 2] !== 0 || buffer[offset + 3] !== 0) return false
  switch (buffer[offset]) {
    case HOP_HANDSHAKE.initiation:
      return length === HOP_HANDSHAKE.initiationBytes
    case HOP_HANDSHAKE.response:
      return length === HOP_HANDSHAKE.responseBytes
    case HOP_HANDSHAKE.cookieReply:
      return length === HOP_HANDSHAKE.cookieReplyBytes
    default:
      return false
  }
}
