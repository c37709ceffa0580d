// A relay as the laboratory of NATs has it: it answers STUN, and holds a UDP port for each flow of a client, who reaches it by
// UDP or, where there is none, by a stream on port 443.
//
//   node src/lab/nat/flow-relay.ts HOST

import dgram from 'node:dgram'
import net from 'node:net'
import { answerBinding } from '#path/answer-binding.ts'
import type { Address } from '#wire/address.ts'
import { FrameReader, frame, unwrap, wrap } from './flow-frame.ts'

const STUN_PORT = 3_478
const TUNNEL_PORT = 51_821
const STREAM_PORT = 443

const [host = '127.0.0.1'] = process.argv.slice(2)
type Reply = (from: Address, bytes: Uint8Array) => void

const stun = dgram.createSocket('udp4')
stun.on('message', (bytes, from) => {
  const answer = answerBinding(bytes, { host: from.address, port: from.port })
  if (answer === undefined) return
  const send = () => stun.send(answer.bytes, from.port, from.address, () => undefined)
  send()
  if (answer.againAfterMs !== undefined) setTimeout(send, answer.againAfterMs)
})
stun.bind(STUN_PORT, host)

const flows = new Map<number, { readonly socket: dgram.Socket; reply: Reply }>()

/** What a client sends for its flow goes out of the flow's port; what comes there goes to where the client was last. */
function carry(packet: Uint8Array, makeReply: (port: number) => Reply): void {
  const tunnelled = unwrap(packet)
  if (tunnelled === undefined) return
  let flow = flows.get(tunnelled.port)
  if (flow === undefined) {
    const socket = dgram.createSocket('udp4')
    const opened = { socket, reply: makeReply(tunnelled.port) }
    socket.on('message', (bytes, from) => opened.reply({ host: from.address, port: from.port }, bytes))
    socket.bind(tunnelled.port, host)
    flows.set(tunnelled.port, opened)
    flow = opened
  }
  flow.reply = makeReply(tunnelled.port)
  const { address, bytes } = tunnelled
  if (address.port !== 0) flow.socket.send(bytes, address.port, address.host, () => undefined)
}

const tunnel = dgram.createSocket('udp4')
tunnel.on('message', (packet, client) => {
  carry(packet, port => (from, bytes) => {
    tunnel.send(wrap(port, from, bytes), client.port, client.address, () => undefined)
  })
})
tunnel.bind(TUNNEL_PORT, host)

net
  .createServer(stream => {
    const reader = new FrameReader()
    stream.on('error', () => stream.destroy())
    stream.on('data', (data: Buffer) => {
      for (const packet of reader.read(data)) {
        carry(packet, port => (from, bytes) => void stream.write(frame(wrap(port, from, bytes))))
      }
    })
  })
  .listen(STREAM_PORT, host, () => process.stdout.write('ready\n'))
