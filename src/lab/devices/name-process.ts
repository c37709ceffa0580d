// A DNS server of a laboratory: every name has the same addresses. It answers over UDP and remembers who asked.
//
//   node src/lab/devices/name-process.ts HOST IPV4 IPV6
//
// GET on TCP port 5380 gives what it remembers, as JSON: the askers' addresses. RFC 1035 §4.

import { createSocket } from 'node:dgram'
import { createServer } from 'node:http'
import { parseIp } from '#wire/address.ts'

const [host = '', ipv4 = '', ipv6 = ''] = process.argv.slice(2)
const HEADER_BYTES = 12
const TYPES = new Map([
  [1, parseIp(ipv4)],
  [28, parseIp(ipv6)],
])
const askers = new Set<string>()

const socket = createSocket('udp4')
socket.on('message', (query, from) => {
  const end = query.indexOf(0, HEADER_BYTES)
  if (end < 0 || query.length < end + 5) return
  if (askers.size < 1_000) askers.add(from.address)
  const address = TYPES.get(query.readUInt16BE(end + 1))
  const header = Buffer.from(query.subarray(0, HEADER_BYTES))
  // An answer, recursion available; one question, one answer or none.
  header.writeUInt16BE(0x8180, 2)
  header.writeUInt16BE(1, 4)
  header.writeUInt16BE(address === undefined ? 0 : 1, 6)
  header.fill(0, 8)
  const question = query.subarray(HEADER_BYTES, end + 5)
  // The name by pointer, type and class as asked, a minute to live.
  const fixed = Buffer.from([
    0xc0,
    HEADER_BYTES,
    ...query.subarray(end + 1, end + 5),
    0,
    0,
    0,
    60,
    0,
    address?.length ?? 0,
  ])
  const answer = address === undefined ? [] : [fixed, address]
  socket.send(Buffer.concat([header, question, ...answer]), from.port, from.address)
})
socket.bind(53, host)
createServer((_, response) => response.end(JSON.stringify([...askers]))).listen(5380, host)
