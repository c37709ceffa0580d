// Frames: what is inside a session between a client and a hop, when it is not an IP packet (first nibble 4 or 6).
//
//   offset size  field
//   0      1     kind
//   1      3     flow number, little-endian, for kind 1; else zero
//   4      …     body
//
//   kind 0  padding    any bytes, ignored; an empty plaintext is a keepalive
//   kind 1  datagram   a datagram of the flow
//   kind 2  control    a control message (control.ts)
//   kind 3  stream     a datagram of the session's stream library (docs/spec/streams.md)
//   kind 8  probe      8 bytes chosen by the asker, then padding of any bytes; does not move a session to the address it
//                      came from
//   kind 10 claim      as a probe, and moves the session like any other packet: it keeps the way in use
//   kind 9  echo       the body of the probe or claim, padding included, sent to where that came from
//
// Length policy: at least 4 bytes; probe, claim and echo at least 12. An echo is as long as what it answers, so that it tells of
// both directions what they carry, and amplifies nothing.

export const FRAME = { padding: 0, datagram: 1, control: 2, stream: 3, probe: 8, echo: 9, claim: 10 } as const
export const FRAME_HEADER_BYTES = 4
export const PROBE_BYTES = 12
export const PROBE_TOKEN_BYTES = PROBE_BYTES - FRAME_HEADER_BYTES

/** Writes the 4 header bytes at `offset`. */
export function writeFrameHeader(buffer: Uint8Array, offset: number, kind: number, flow = 0): void {
  buffer[offset] = kind
  buffer[offset + 1] = flow & 0xff
  buffer[offset + 2] = (flow >>> 8) & 0xff
  buffer[offset + 3] = (flow >>> 16) & 0xff
}

/** The flow number of the frame at `offset`. */
export function frameFlow(buffer: Uint8Array, offset: number): number {
  return (buffer[offset + 1] ?? 0) | ((buffer[offset + 2] ?? 0) << 8) | ((buffer[offset + 3] ?? 0) << 16)
}
