// IP packets out of capture files (the classic pcap format, draft-ietf-opsawg-pcap). Whatever is no IP packet is left out.
//
//   file    0/4 magic, which tells the byte order, 20/4 link type; 24 bytes
//   record  8/4 bytes kept, 12/4 bytes that there were; 16 bytes, then what was kept

const FILE_HEADER_BYTES = 24
const RECORD_HEADER_BYTES = 16
/** Where the type of the payload stands and where it begins, by link type; raw IP has no type. */
const LINKS: Readonly<Record<number, { readonly type?: number; readonly payload: number }>> = {
  1: { type: 12, payload: 14 },
  12: { payload: 0 },
  101: { payload: 0 },
  113: { type: 14, payload: 16 },
}
const IP_TYPES = [0x0800, 0x86dd]

/** The IP packets of a capture, those that were not kept whole included; none if it is of another format. */
export function* packetsOf(file: Buffer): Generator<Buffer> {
  if (file.length < FILE_HEADER_BYTES) return
  const isLittleEndian = file.readUInt32LE(0) === 0xa1b2c3d4
  if (!isLittleEndian && file.readUInt32BE(0) !== 0xa1b2c3d4) return
  const read = (at: number) => (isLittleEndian ? file.readUInt32LE(at) : file.readUInt32BE(at))
  const link = LINKS[read(20)]
  if (link === undefined) return
  for (let at = FILE_HEADER_BYTES; at + RECORD_HEADER_BYTES <= file.length; ) {
    const length = read(at + 8)
    at += RECORD_HEADER_BYTES
    const record = file.subarray(at, at + length)
    at += length
    if (record.length < link.payload) continue
    if (link.type === undefined || IP_TYPES.includes(record.readUInt16BE(link.type)))
      yield record.subarray(link.payload)
  }
}
