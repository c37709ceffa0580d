import assert from 'node:assert/strict'
import { test } from 'node:test'
import { parseIp } from '#wire/address.ts'
import { Firewall, type PortRule } from './firewall.ts'

const US = { 4: '100.64.0.1', 6: 'fd68:6f70:6c69::1' }
const THEM = { 4: '100.64.0.2', 6: 'fd68:6f70:6c69::2' }
const SSH: PortRule[] = [{ protocol: 'tcp', fromPort: 22, toPort: 22 }]
const DNS: PortRule[] = [{ protocol: 'udp', fromPort: 50, toPort: 60 }]
const PROTOCOL = { tcp: 6, udp: 17, icmp: 1, icmp6: 58, esp: 50 } as const

interface Made {
  readonly family: 4 | 6
  readonly protocol: keyof typeof PROTOCOL
  readonly isOurs?: boolean
  readonly ports?: readonly [number, number]
  readonly flags?: number
  readonly type?: number
  readonly fragment?: number
}

function packet({ family, protocol, isOurs = false, ports = [0, 0], flags = 0, type = 0, fragment }: Made): Buffer {
  const [from, to] = isOurs ? [US, THEM] : [THEM, US]
  const upper = Buffer.alloc(20)
  if (protocol === 'tcp' || protocol === 'udp') {
    upper.writeUInt16BE(ports[0], 0)
    upper.writeUInt16BE(ports[1], 2)
    upper[13] = flags
  } else upper[0] = type
  const addresses = Buffer.concat([parseIp(from[family]) as Uint8Array, parseIp(to[family]) as Uint8Array])
  if (family === 4) {
    const header = Buffer.alloc(12)
    header[0] = 0x45
    header.writeUInt16BE(40, 2)
    header.writeUInt16BE(fragment ?? 0, 6)
    header[9] = PROTOCOL[protocol]
    return Buffer.concat([header, addresses, upper])
  }
  const header = Buffer.alloc(8)
  header[0] = 0x60
  header[6] = fragment === undefined ? PROTOCOL[protocol] : 44
  const extension = Buffer.alloc(fragment === undefined ? 0 : 8)
  if (fragment !== undefined) {
    extension[0] = PROTOCOL[protocol]
    extension.writeUInt16BE(fragment << 3, 2)
  }
  return Buffer.concat([header, addresses, extension, upper])
}

function admits(firewall: Firewall, rules: PortRule[], made: Made, now = 0): boolean {
  const bytes = packet(made)
  return firewall.admits(rules, bytes, 0, bytes.length, now)
}

for (const family of [4, 6] as const) {
  test(`IPv${family}: a connection is begun here only where a rule says so, and answers to ours come in`, () => {
    const firewall = new Firewall()
    const tcp = (port: number, flags: number): Made => ({ family, protocol: 'tcp', ports: [40_000, port], flags })
    assert.equal(admits(firewall, [], tcp(22, 0x02)), false)
    assert.equal(admits(firewall, SSH, tcp(22, 0x02)), true)
    assert.equal(admits(firewall, SSH, tcp(23, 0x02)), false)
    assert.equal(admits(firewall, [], tcp(50_000, 0x12)), true, 'SYN and ACK answer a SYN of ours')
    assert.equal(admits(firewall, DNS, tcp(53, 0x02)), false, 'a rule is for one protocol')
  })

  test(`IPv${family}: datagrams come in where a rule says so, or for three minutes as answers`, () => {
    const firewall = new Firewall()
    const theirs: Made = { family, protocol: 'udp', ports: [53, 5_000] }
    assert.equal(admits(firewall, [], theirs), false)
    assert.equal(admits(firewall, DNS, { family, protocol: 'udp', ports: [5_000, 53] }), true)
    const ours = packet({ family, protocol: 'udp', isOurs: true, ports: [5_000, 53] })
    firewall.outward(ours, 0, ours.length, 1_000)
    assert.equal(admits(firewall, [], theirs, 180_999), true)
    assert.equal(admits(firewall, [], theirs, 181_000), false)
    assert.equal(admits(firewall, [], { family, protocol: 'udp', ports: [54, 5_000] }, 1_000), false)
  })

  test(`IPv${family}: echoes and errors come in; what would change routes, other protocols and stumps do not`, () => {
    const firewall = new Firewall()
    const protocol = family === 4 ? 'icmp' : 'icmp6'
    const types = family === 4 ? { echo: 8, error: 3, redirect: 5 } : { echo: 128, error: 1, redirect: 137 }
    assert.equal(admits(firewall, [], { family, protocol, type: types.echo }), true)
    assert.equal(admits(firewall, [], { family, protocol, type: types.error }), true)
    assert.equal(admits(firewall, [], { family, protocol, type: types.redirect }), false)
    assert.equal(admits(firewall, SSH, { family, protocol: 'esp' }), false)
    const whole = packet({ family, protocol: 'tcp', ports: [1, 22], flags: 0x02 })
    for (let length = 0; length < whole.length; length++) {
      assert.equal(firewall.admits(SSH, whole, 0, length, 0), false, `${length} bytes`)
    }
  })

  test(`IPv${family}: the first fragment is looked at, later ones go with it`, () => {
    const firewall = new Firewall()
    const first: Made = { family, protocol: 'tcp', ports: [1, 22], flags: 0x02, fragment: 0 }
    assert.equal(admits(firewall, [], first), false)
    assert.equal(admits(firewall, SSH, first), true)
    assert.equal(admits(firewall, [], { family, protocol: 'tcp', fragment: 10 }), true)
  })
}

test('flows are bounded, and the one silent for longest goes first', () => {
  const firewall = new Firewall()
  for (let i = 0; i < 20_000; i++) {
    const ours = packet({ family: 4, protocol: 'udp', isOurs: true, ports: [5_000 + (i >> 8), i & 0xff] })
    firewall.outward(ours, 0, ours.length, 1)
  }
  assert.equal(firewall.size, 16_384)
  assert.equal(admits(firewall, [], { family: 4, protocol: 'udp', ports: [0, 5_000] }, 1), false)
  assert.equal(
    admits(firewall, [], { family: 4, protocol: 'udp', ports: [19_999 & 0xff, 5_000 + (19_999 >> 8)] }, 1),
    true,
  )
})
