// How a router at home is asked for a UDP port: PCP (RFC 6887) and, where the router is older, NAT-PMP (RFC 6886). Both on port
// 5351 of the router, network byte order.
//
//   PCP       offset size  MAP request / response
//             0      1     version = 2
//             1      1     opcode 1; 0x81 in a response
//             2      2     zero; in a response zero and a result code, 0 is success
//             4      4     lifetime in seconds; 0 gives the port back
//             8      16    address of the client / epoch (4) and zeros
//             24     12    nonce: the response has the same
//             36     4     protocol 17 and zeros
//             40     4     port of the client, port outside
//             44     16    address outside, IPv4 as ::ffff:a.b.c.d; zero in a request
//   NAT-PMP   2 bytes 0 0 ask for the address outside: 0 128, result (2), epoch (4), IPv4 (4)
//             12 bytes ask for a port: 0 1, zero (2), port of the client (2), port outside (2), lifetime (4);
//             0 129, result (2), epoch (4), port of the client (2), port outside (2), lifetime (4)
//
// Length policy: at least what is named; PCP allows options behind it, which we have asked for none of.

import { formatIPv6, parseIp } from './address.ts'

export const PORT_CONTROL_PORT = 5_351
export const PCP_NONCE_BYTES = 12
const PCP_VERSION = 2
const MAP = 1
const RESPONSE = 0x80
const UDP = 17
const PCP_BYTES = 60
const NAT_PMP_MAP_BYTES = 16
const NAT_PMP_ADDRESS_BYTES = 12

export interface PcpMap {
  /** 12 bytes. */
  readonly nonce: Uint8Array
  /** Our IPv4 address, as the router sees it. */
  readonly client: string
  readonly port: number
  readonly externalPort: number
  readonly lifetimeSeconds: number
}

export type PortControlAnswer =
  | {
      readonly kind: 'pcpMapped'
      readonly nonce: Uint8Array
      readonly port: number
      readonly external: { readonly host: string; readonly port: number }
      readonly lifetimeSeconds: number
    }
  | {
      readonly kind: 'natPmpMapped'
      readonly port: number
      readonly externalPort: number
      readonly lifetimeSeconds: number
    }
  | { readonly kind: 'natPmpAddress'; readonly host: string }
  /** The router says no; `isOther` if it speaks the other of the two. */
  | { readonly kind: 'refused'; readonly isOther: boolean }

export function encodePcpMap({ nonce, client, port, externalPort, lifetimeSeconds }: PcpMap): Uint8Array {
  const bytes = Buffer.alloc(PCP_BYTES)
  bytes[0] = PCP_VERSION
  bytes[1] = MAP
  bytes.writeUInt32BE(lifetimeSeconds, 4)
  bytes.fill(0xff, 18, 20)
  bytes.set(parseIp(client)?.subarray(0, 4) ?? [], 20)
  bytes.set(nonce.subarray(0, PCP_NONCE_BYTES), 24)
  bytes[36] = UDP
  bytes.writeUInt16BE(port, 40)
  bytes.writeUInt16BE(externalPort, 42)
  // RFC 6887 §11.1: any IPv4 address is asked for as ::ffff:0.0.0.0.
  bytes.fill(0xff, 54, 56)
  return bytes
}

export function encodeNatPmpMap(port: number, externalPort: number, lifetimeSeconds: number): Uint8Array {
  const bytes = Buffer.alloc(12)
  bytes[1] = MAP
  bytes.writeUInt16BE(port, 4)
  bytes.writeUInt16BE(externalPort, 6)
  bytes.writeUInt32BE(lifetimeSeconds, 8)
  return bytes
}

export function encodeNatPmpAddress(): Uint8Array {
  return new Uint8Array(2)
}

/** Reads what a router said; `undefined` when it is malformed or answers something that is not asked here. */
export function decodePortControl(bytes: Uint8Array): PortControlAnswer | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  if (view.length < 4) return undefined
  if (view[0] === PCP_VERSION) return decodePcp(view)
  return view[0] === 0 ? decodeNatPmp(view) : undefined
}

function decodePcp(view: Buffer): PortControlAnswer | undefined {
  if (view[1] !== (RESPONSE | MAP)) return undefined
  const result = view[3] ?? 0
  if (result !== 0) return { kind: 'refused', isOther: result === 1 }
  if (view.length < PCP_BYTES || view[36] !== UDP) return undefined
  const host = hostOf(view.subarray(44, 60))
  if (host === undefined) return undefined
  return {
    kind: 'pcpMapped',
    nonce: Uint8Array.from(view.subarray(24, 36)),
    port: view.readUInt16BE(40),
    external: { host, port: view.readUInt16BE(42) },
    lifetimeSeconds: view.readUInt32BE(4),
  }
}

function decodeNatPmp(view: Buffer): PortControlAnswer | undefined {
  // An older router answers PCP with its own version and "unsupported version", whatever the opcode (RFC 6886 §3.5).
  const result = view.readUInt16BE(2)
  if (result !== 0) return { kind: 'refused', isOther: result === 1 }
  if (view[1] === RESPONSE) {
    return view.length < NAT_PMP_ADDRESS_BYTES
      ? undefined
      : { kind: 'natPmpAddress', host: view.subarray(8, 12).join('.') }
  }
  if (view[1] !== (RESPONSE | MAP) || view.length < NAT_PMP_MAP_BYTES) return undefined
  const [port, externalPort] = [view.readUInt16BE(8), view.readUInt16BE(10)]
  return { kind: 'natPmpMapped', port, externalPort, lifetimeSeconds: view.readUInt32BE(12) }
}

function hostOf(bytes: Uint8Array): string | undefined {
  const isIPv4 = bytes.subarray(0, 10).every(byte => byte === 0) && bytes[10] === 0xff && bytes[11] === 0xff
  return isIPv4 ? bytes.subarray(12).join('.') : formatIPv6(bytes)
}
