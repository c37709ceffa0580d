// Recorded sessions of other implementations, with their keys.

import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { openInPlace, sealInPlace } from '#crypto/aead.ts'
import { noiseHkdf } from '#crypto/blake2s.ts'
import { chachaOpen, counterNonce } from '#crypto/chacha20poly1305.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { receiverIndex, transportCounter } from '#wire/transport.ts'
import { decodeWireGuardInitiation, decodeWireGuardResponse } from '#wire/wireguard.ts'
import { addMacs, checkMac1, mac1Key } from '../cookie.ts'
import { WireGuardDevice } from './device.ts'
import { makeIdentity, readInitiation, readResponse, writeInitiation } from './handshake.ts'

const VECTORS = new URL('../../../../shared/vectors/wireguard/', import.meta.url)
const SKIPPED = 'the third-party vectors are not beside the repository'
const hex = (text: string | undefined) => Uint8Array.from(Buffer.from(text ?? '', 'hex'))
const toHex = (bytes: Uint8Array | undefined) => bytes && Buffer.from(bytes).toString('hex')

function load<Contents>(file: string): Contents | undefined {
  const url = new URL(file, VECTORS)
  return existsSync(url) ? (JSON.parse(readFileSync(url, 'utf8')) as Contents) : undefined
}

interface Capture {
  readonly handshakes: readonly Record<string, string>[]
  readonly extra_transport_keys: Readonly<Record<string, string>>
  readonly transport: readonly {
    readonly direction: string
    readonly receiver_index: number
    readonly counter: number
    readonly datagram: string
    readonly plaintext_padded: string
    readonly inner_total_length: number
  }[]
}

const capture = load<Capture>('wireshark-ping-tcp-full-secrets.json')
const recorded = capture?.handshakes[0]

test('the recorded initiator is reproduced byte for byte, and takes the recorded response', t => {
  if (recorded === undefined) return t.skip(SKIPPED)
  const responderPublic = x25519FromPrivate(hex(recorded['static_private_responder'])).publicKey
  const initiation = hex(recorded['initiation'])
  const sent = writeInitiation({
    identity: makeIdentity(hex(recorded['static_private_initiator'])),
    remoteStatic: responderPublic,
    psk: hex(recorded['preshared_key']),
    localIndex: decodeWireGuardInitiation(initiation)?.senderIndex ?? 0,
    timestamp: hex(recorded['timestamp_tai64n']),
    random: () => hex(recorded['ephemeral_private_initiator']),
  })
  assert.ok(sent)
  addMacs(sent.message, mac1Key(responderPublic))
  assert.equal(toHex(sent.message), recorded['initiation'])
  const keys = readResponse(sent, hex(recorded['response']))
  assert.equal(toHex(keys?.sendKey), recorded['transport_key_initiator_to_responder'])
  assert.equal(toHex(keys?.receiveKey), recorded['transport_key_responder_to_initiator'])
})

test('the recorded responder is reproduced byte for byte, and finds who asked and when', t => {
  if (recorded === undefined) return t.skip(SKIPPED)
  const identity = makeIdentity(hex(recorded['static_private_responder']))
  const initiation = hex(recorded['initiation'])
  assert.equal(checkMac1(initiation, identity.mac1Key), true)
  const received = readInitiation(identity, initiation, () => hex(recorded['ephemeral_private_responder']))
  const initiatorPublic = x25519FromPrivate(hex(recorded['static_private_initiator'])).publicKey
  assert.equal(toHex(received?.remoteStatic), toHex(initiatorPublic))
  assert.equal(toHex(received?.timestamp), recorded['timestamp_tai64n'])
  const localIndex = decodeWireGuardResponse(hex(recorded['response']))?.senderIndex ?? 0
  const made = received?.respond(hex(recorded['preshared_key']), localIndex)
  assert.ok(made)
  addMacs(made.message, mac1Key(initiatorPublic))
  assert.equal(toHex(made.message), recorded['response'])
  assert.equal(toHex(made.keys.receiveKey), recorded['transport_key_initiator_to_responder'])
  assert.equal(toHex(made.keys.sendKey), recorded['transport_key_responder_to_initiator'])
})

test('a device in the place of the recorded responder answers the same bytes and reads the recorded packets', t => {
  if (capture === undefined || recorded === undefined) return t.skip(SKIPPED)
  const wire: (string | undefined)[] = []
  const tunnel: (string | undefined)[] = []
  const index = hex(recorded['response']).subarray(4, 8)
  const device = new WireGuardDevice<string>({
    privateKey: hex(recorded['static_private_responder']),
    random: length => (length === 4 ? index : hex(recorded['ephemeral_private_responder']).subarray(0, length)),
    unixOffsetMs: 0,
    outlet: {
      toEndpoint: (_peer, _to, buffer, at, length) => wire.push(toHex(buffer.subarray(at, at + length))),
      toTunnel: (_peer, buffer, at, length) => tunnel.push(toHex(buffer.subarray(at, at + length))),
    },
    sameEndpoint: (a, b) => a === b,
    endpointBytes: endpoint => Buffer.from(endpoint),
  })
  const publicKey = x25519FromPrivate(hex(recorded['static_private_initiator'])).publicKey
  device.setPeer({ publicKey, allowedIps: [{ address: new Uint8Array(4), bits: 0 }] }, 0)
  const receive = (datagram: string) => {
    const bytes = hex(datagram)
    return device.receive(bytes, 0, bytes.length, 'there', 1)
  }
  assert.equal(receive(recorded['initiation'] ?? ''), undefined)
  assert.deepEqual(wire, [recorded['response']])
  const ours = decodeWireGuardResponse(hex(recorded['response']))?.senderIndex
  const inward = capture.transport.filter(packet => packet.receiver_index === ours)
  for (const { datagram } of inward) assert.equal(receive(datagram), undefined)
  assert.ok(tunnel.length > 0)
  const packets = inward.filter(packet => packet.plaintext_padded !== '')
  assert.deepEqual(
    tunnel,
    packets.map(packet => packet.plaintext_padded.slice(0, packet.inner_total_length * 2)),
  )
})

test('recorded packets open to what was in them and are sealed to the same bytes', t => {
  const trace = load<{
    transport: readonly {
      receiver_index: number
      counter: number
      key: string
      datagram: string
      plaintext_padded: string
    }[]
  }>('8-trace-decoded.json')
  if (capture === undefined || recorded === undefined || trace === undefined) return t.skip(SKIPPED)
  const keyed = capture.transport.map(packet => ({
    ...packet,
    key:
      capture.extra_transport_keys[String(packet.receiver_index)] ??
      recorded[`transport_key_${packet.direction}`] ??
      '',
  }))
  for (const { key, counter, datagram, plaintext_padded, receiver_index } of [...keyed, ...trace.transport]) {
    const bytes = hex(datagram)
    assert.equal(receiverIndex(bytes, 0), receiver_index)
    assert.equal(transportCounter(bytes, 0), counter)
    assert.equal(openInPlace(hex(key), counter, bytes, 16, bytes.length - 16), true)
    assert.equal(toHex(bytes.subarray(16, -16)), plaintext_padded)
    sealInPlace(hex(key), counter, bytes, 16, bytes.length - 32)
    assert.equal(toHex(bytes), datagram)
  }
})

test('the sealed parts of recorded handshakes lie where the layout says', t => {
  const trace = load<{ handshake_messages: readonly Record<string, string>[] }>('8-trace-decoded.json')
  if (trace === undefined) return t.skip(SKIPPED)
  const open = (key: string | undefined, sealed: Uint8Array | undefined, ad: string | undefined) =>
    toHex(chachaOpen(hex(key), counterNonce(0), sealed ?? new Uint8Array(0), hex(ad)))
  for (const message of trace.handshake_messages) {
    const bytes = hex(message['datagram'])
    if (message['type'] === 'initiation') {
      const noise = decodeWireGuardInitiation(bytes)?.noise
      assert.equal(open(message['static_key'], noise?.subarray(32, 80), message['static_aad']), message['static_plain'])
      const timestamp = open(message['timestamp_key'], noise?.subarray(80), message['timestamp_aad'])
      assert.equal(timestamp, message['timestamp_plain'])
      assert.equal(checkMac1(bytes, mac1Key(hex('00'))), false, 'mac1 is for somebody')
    } else {
      assert.equal(
        open(message['empty_key'], decodeWireGuardResponse(bytes)?.noise.subarray(32), message['empty_aad']),
        '',
      )
    }
  }
})

test('the key derivation is the published one', t => {
  const kdf = load<{ vectors: readonly Record<string, string>[] }>('kdf-hmac-blake2s.json')
  if (kdf === undefined) return t.skip(SKIPPED)
  for (const { key, input, t0, t1, t2 } of kdf.vectors) {
    const outputs = [t0, t1, t2]
    for (const count of [1, 2, 3] as const) {
      assert.deepEqual(noiseHkdf('blake2s256', hex(key), hex(input), count).map(toHex), outputs.slice(0, count))
    }
  }
})

test('recorded packets of strangers are dropped, every one, and nothing is answered', t => {
  const names = ['unkeyed/zeek-wireguard.pcap', 'unkeyed/zeek-tailscale_linux.pcap', '8-trace.pcap']
  if (!names.every(name => existsSync(new URL(name, VECTORS)))) return t.skip(SKIPPED)
  let answered = 0
  const device = new WireGuardDevice<string>({
    privateKey: new Uint8Array(32).fill(7),
    random: length => new Uint8Array(length).fill(9),
    unixOffsetMs: 0,
    outlet: { toEndpoint: () => answered++, toTunnel: () => answered++ },
    sameEndpoint: (a, b) => a === b,
    endpointBytes: endpoint => Buffer.from(endpoint),
  })
  let packets = 0
  for (const name of names) {
    for (const packet of pcap(readFileSync(new URL(name, VECTORS)))) {
      // Whole frames, and what follows the usual headers of Ethernet, IPv4 and UDP.
      for (const from of [0, 42]) {
        const bytes = Uint8Array.from(packet.subarray(from))
        assert.notEqual(device.receive(bytes, 0, bytes.length, 'there', packets), undefined)
      }
      packets++
    }
  }
  assert.ok(packets > 300)
  assert.equal(answered, 0)
})

/** The packets of a capture file (classic pcap, either byte order). */
function* pcap(file: Buffer): Generator<Uint8Array> {
  const isLittle = file.readUInt32LE(0) === 0xa1b2c3d4 || file.readUInt32LE(0) === 0xa1b23c4d
  for (let at = 24; at + 16 <= file.length; ) {
    const length = isLittle ? file.readUInt32LE(at + 8) : file.readUInt32BE(at + 8)
    yield file.subarray(at + 16, at + 16 + length)
    at += 16 + length
  }
}
