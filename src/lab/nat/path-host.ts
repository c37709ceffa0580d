// One side of a path, as a process: offers come and go as lines of JSON on standard input and output, and a numbered packet is
// sent every 20 ms as soon as there is a path. For the scenario `nat-matrix`.
//
//   node src/lab/nat/path-host.ts '{"isControlling":true,"stun":["20.0.0.1:3478"],"relay":"20.0.0.1","flow":20000}'

import dgram from 'node:dgram'
import net from 'node:net'
import { createInterface } from 'node:readline'
import { systemRandom } from '#crypto/random.ts'
import { PathShell } from '#platform/paths/path-shell.ts'
import { type Address, formatAddress, parseAddress } from '#wire/address.ts'
import { FrameReader, frame, unwrap, wrap } from './flow-frame.ts'
import { MAIN_PORT } from './home.ts'

interface Setup {
  readonly isControlling: boolean
  readonly stun: readonly string[]
  readonly relay?: string
  readonly flow?: number
  readonly isStreamOnly?: boolean
  readonly hasIPv6?: boolean
  readonly turn?: { readonly address: string; readonly username: string; readonly password: string }
}

const PEER = 1
const SEND_EVERY_MS = 20
const NOBODY: Address = { host: '0.0.0.0', port: 0 }

const setup = JSON.parse(process.argv[2] ?? '{}') as Setup
const say = (line: object) => void process.stdout.write(`${JSON.stringify(line)}\n`)
const addresses = (list: readonly string[]) => list.map(parseAddress).filter(address => address !== undefined)
const { relay, flow, turn } = setup
let toRelay: (packet: Uint8Array) => void = () => undefined
let isSending = true
let sent = 0
let received = 0

const shell = new PathShell({
  random: systemRandom,
  stunServers: addresses(setup.stun),
  turnServers: turn === undefined ? [] : addresses([turn.address]).map(address => ({ ...turn, address })),
  onOffer: (_peer, offer) => say({ offer: Buffer.from(offer).toString('hex') }),
  onPath: (_peer, path) => say({ path: path?.kind ?? 'none', to: path && formatAddress(path.to) }),
  onPacket: ({ bytes }) => {
    if (bytes.length !== 8) return
    received++
    say({ received, number: Buffer.from(bytes).readUInt32LE(4) })
  },
})

if (setup.hasIPv6) await shell.listen(6, MAIN_PORT)
await shell.listen(4, MAIN_PORT)
shell.do((endpoint, now) => endpoint.connect(PEER, setup.isControlling, now))
if (relay !== undefined && flow !== undefined) {
  let local = -1
  const hear = (packet: Uint8Array) => {
    const tunnelled = unwrap(packet)
    if (tunnelled !== undefined) shell.deliver(tunnelled.bytes, tunnelled.address, local)
  }
  if (setup.isStreamOnly) {
    const reader = new FrameReader()
    const stream = net.connect(443, relay)
    stream.on('data', (data: Buffer) => {
      for (const packet of reader.read(data)) hear(packet)
    })
    toRelay = packet => void stream.write(frame(packet))
  } else {
    const socket = dgram.createSocket('udp4')
    socket.on('message', hear)
    toRelay = packet => socket.send(packet, 51_821, relay, () => undefined)
  }
  toRelay(wrap(flow, NOBODY, new Uint8Array(0)))
  local = shell.attachRelay({ host: relay, port: flow }, (to, bytes) => toRelay(wrap(flow, to, bytes)))
}

setInterval(() => {
  const packet = Buffer.from([4, 0, 0, 0, 0, 0, 0, 0])
  packet.writeUInt32LE(sent, 4)
  if (isSending && shell.send(PEER, packet)) sent++
}, SEND_EVERY_MS)

for await (const line of createInterface({ input: process.stdin })) {
  const { offer, isSending: next } = JSON.parse(line) as { offer?: string; isSending?: boolean }
  if (offer !== undefined) shell.handleOffer(PEER, Buffer.from(offer, 'hex'))
  if (next !== undefined) isSending = next
}
process.exit(0)
