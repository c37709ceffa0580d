import assert from 'node:assert/strict'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import test, { type TestContext } from 'node:test'
import { HopliteError } from '#api/errors.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { addPeer, VirtualTunnel, VirtualWireGuard } from '#lab/entry/virtual-entry.ts'
import { skipUnless } from '#lab/skip.ts'
import { VirtualNet } from '#lab/virtual-net.ts'
import { inside4, ipPacket } from '#lab/wireguard/wireguard-net.ts'
import { MAX_WG_QUICK_BYTES } from '#wire/wg-quick.ts'
import { formatKey } from '#wire/wireguard-key.ts'
import {
  fileForEntry,
  type PeerCount,
  planFromText,
  readEntryFile,
  readEntryText,
  resolveServer,
  tunnelMtu,
} from './entry-plan.ts'

const VECTORS = new URL('../../../../shared/vectors/configs-socks-dns/wg-conf/', import.meta.url)
const SERVER = { host: '10.200.0.1', port: 51_820 }
const CLIENT = '10.100.0.1'
/** Bytes of an IP header and a UDP header. */
const OUTER = { 4: 20 + 8, 6: 40 + 8 } as const

const key = (fill: number) => formatKey(new Uint8Array(32).fill(fill))
const FILE = `[Interface]
PrivateKey = ${key(1)}
Address = 10.66.0.2/32
[Peer]
PublicKey = ${key(2)}
AllowedIPs = 0.0.0.0/0
Endpoint = vpn.example.net:51820
`

function write(t: TestContext, name: string, content: string | Uint8Array): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'hoplite-plan-'))
  t.after(() => rmSync(directory, { recursive: true }))
  const file = path.join(directory, name)
  writeFileSync(file, content)
  return file
}

/** What a file is refused with. */
function refusal(file: string): HopliteError {
  try {
    readEntryFile(file)
  } catch (error) {
    assert.ok(error instanceof HopliteError, String(error))
    assert.equal(error.code, 'ENTRY_FILE_INVALID')
    return error
  }
  return assert.fail('it was taken')
}

/** Asserts that an error names no word of the file that is longer than two letters, but those that are WireGuard's own. */
function assertTellsNothing({ message, advice }: HopliteError, file: string, content: string | Uint8Array): void {
  const said = `${message.replaceAll(file, '')} ${advice}`
  const own =
    /^(interface|peer|privatekey|publickey|presharedkey|address|endpoint|allowedips|persistentkeepalive|listenport|dns|mtu|line|key|the|and|not|for)$/i
  const words =
    Buffer.from(content)
      .toString('utf8')
      .match(/[\w+/=.:-]{3,}/g) ?? []
  for (const word of words) if (!own.test(word)) assert.ok(!said.includes(word), `"${said}" has "${word}"`)
}

test('a file is read, and its name without the ending is the interface’s', t => {
  const { name, config } = readEntryFile(write(t, 'mullvad-se1.conf', FILE))
  assert.equal(name, 'mullvad-se1')
  assert.deepEqual(config.peers[0]?.endpoint, { host: 'vpn.example.net', port: 51_820 })
})

test('an interface’s name has at most 15 bytes, of which none is odd', t => {
  const names = [
    ['a-very-long-name-of-a-provider.conf', 'a-very-long-nam'],
    ['se sto/x.conf'.replace('/', '+'), 'se-sto-x'],
    ['überall.conf', '-berall'],
    ['plain', 'plain'],
    ['...conf', 'hoplite0'],
    ['😀.conf', 'hoplite0'],
    ['wg0.conf.conf', 'wg0-conf'],
  ] as const
  for (const [file, name] of names) {
    const read = readEntryFile(write(t, file, FILE)).name
    assert.equal(read, name, file)
    assert.match(read, /^[A-Za-z0-9_-]{1,15}$/)
  }
})

test('a file that lacks what a tunnel needs is refused, and told what', t => {
  for (const [line, what] of [
    [/^PrivateKey.*\n/m, /no PrivateKey/],
    [/^Address.*\n/m, /no Address/],
    [/^Endpoint.*\n/m, /no \[Peer\] has an Endpoint/],
    [/^\[Peer\][^]*/m, /no \[Peer\] has an Endpoint/],
  ] as const) {
    const content = FILE.replace(line, '')
    const file = write(t, 'wg.conf', content)
    const error = refusal(file)
    assert.match(error.message, what)
    assertTellsNothing(error, file, content)
  }
})

test('keys that no tunnel can be made of are refused: the interface’s own for a peer, and one that hides nothing', t => {
  const own = formatKey(x25519FromPrivate(new Uint8Array(32).fill(1)).publicKey)
  const one = formatKey(Uint8Array.of(1, ...new Uint8Array(31)))
  for (const [publicKey, what] of [
    [own, /PublicKey of \[Interface\] itself/],
    [one, /PublicKey that is no key/],
  ] as const) {
    const content = FILE.replace(key(2), publicKey)
    const file = write(t, 'wg.conf', content)
    const error = refusal(file)
    assert.match(error.message, what)
    assertTellsNothing(error, file, content)
  }
})

test('whatever else is wrong with a file, the message names the line and has no word of the file', t => {
  const secret = 'hunter2secret'
  const contents: readonly (string | Uint8Array)[] = [
    FILE.replace('AllowedIPs', secret),
    FILE.replace('0.0.0.0/0', secret),
    FILE.replace(key(1), `${key(1)}${secret}`),
    FILE.replace(':51820', `:${secret}`),
    `${secret}\n${FILE}`,
    FILE.replace('[Peer]', `[${secret}]`),
    Buffer.from(FILE, 'utf16le'),
    Buffer.concat([Buffer.of(0xff, 0xfe), Buffer.from(FILE, 'utf16le')]),
    Buffer.concat([Buffer.from(FILE), Buffer.of(0xc3, 0x28, 0xff)]),
    FILE.replace('\n', '\0\n'),
    'x'.repeat(MAX_WG_QUICK_BYTES + 1),
    '',
  ]
  for (const content of contents) {
    const file = write(t, 'wg.conf', content)
    assertTellsNothing(refusal(file), file, content)
  }
})

test('what is no readable file is refused: none, a directory, a device', t => {
  const directory = path.dirname(write(t, 'wg.conf', FILE))
  mkdirSync(path.join(directory, 'folder.conf'))
  assert.match(refusal(path.join(directory, 'none.conf')).message, /ENOENT/)
  assert.match(refusal(path.join(directory, 'folder.conf')).message, /not a file/)
  if (process.platform !== 'win32') assert.match(refusal('/dev/zero').message, /not a file/)
})

test('files of other projects are taken or refused, and never told of', t => {
  if (skipUnless(t, existsSync(VECTORS), 'no vectors beside the repository')) return
  const verdicts: Record<string, { valid: boolean }> = JSON.parse(
    readFileSync(new URL('expected.json', VECTORS), 'utf8'),
  )
  let taken = 0
  for (const [name, { valid }] of Object.entries(verdicts)) {
    const content = readFileSync(new URL(name, VECTORS))
    const file = write(t, name, content)
    try {
      readEntryFile(file)
      assert.ok(valid, name)
      taken++
    } catch {
      assertTellsNothing(refusal(file), file, content)
    }
  }
  assert.ok(taken >= 3, `${taken} taken`)
})

test('a name that nobody knows is an error that does not repeat it: the log is told of no destination', async () => {
  await assert.rejects(resolveServer({ host: 'vpn.nowhere.invalid', port: 1 }), (error: unknown) => {
    assert.ok(error instanceof HopliteError && error.code === 'NAME_NOT_FOUND')
    assert.doesNotMatch(`${error.message}${error.advice}`, /nowhere/)
    return true
  })
  assert.deepEqual(await resolveServer({ host: '2001:db8::1', port: 9 }), { host: '2001:db8::1', port: 9 })
})

/** UDP payloads between a client and its first peer while packets of `mtu` bytes go both ways over `peers` peers. */
function payloads(peers: PeerCount, mtu: number): number[] {
  const net = new VirtualNet(`mtu ${mtu} over ${peers}`)
  const hops = Array.from({ length: peers }, (_, n) => addPeer(net, `10.${n + 1}.0.1`))
  const server = new VirtualWireGuard(net, SERVER)
  const tunnel = new VirtualTunnel(net, CLIENT, server, avoid =>
    avoid.length > 0 ? { problem: 'no spares' } : { hops },
  )
  net.run(2_000)
  tunnel.send(mtu)
  assert.ok(net.run(2_000, () => server.inbox.length === 1))
  const mark = net.wire.length
  tunnel.send(mtu)
  server.send(ipPacket(inside4(2), inside4(1), mtu))
  assert.ok(net.run(2_000, () => server.inbox.length === 2 && tunnel.inbox.length === 1))
  assert.deepEqual([server.inbox[1]?.packet.length, tunnel.inbox[0]?.packet.length], [mtu, mtu])
  const near = net.wire.slice(mark).filter(({ from, to }) => [from, to].some(host => host.startsWith(CLIENT)))
  // Both ways, and neither cut in pieces; probes are short.
  const long = near.map(({ bytes }) => bytes.length).filter(length => length >= mtu)
  assert.equal(long.length, 2)
  return long
}

for (const peers of [1, 2] as const) {
  for (const family of [4, 6] as const) {
    for (const link of [1_444, 1_492, 1_500]) {
      test(`over ${peers} and IPv${family}, the longest packet of a tunnel fits a link of ${link} bytes, and no longer one does`, () => {
        const mtu = tunnelMtu(link, peers, family)
        for (const payload of payloads(peers, mtu)) assert.ok(OUTER[family] + payload <= link, `${payload}`)
        // WireGuard pads to 16 bytes: the next longer packet takes 16 more.
        assert.ok(payloads(peers, mtu + 1).every(payload => OUTER[family] + payload > link))
      })
    }
  }
}

test('a link of long packets does not make those of a tunnel longer than the internet carries', () => {
  for (const link of [9_001, 65_536]) assert.equal(tunnelMtu(link, 1, 4), tunnelMtu(1_500, 1, 4))
})

test('a tunnel has never less than IPv6 needs', () => {
  assert.equal(tunnelMtu(1_280, 2, 6), 1_280)
})

test('a file is changed so that its tunnel goes to an entry that listens, and nothing else of it is', () => {
  const listen = { host: '127.0.0.1', port: 51_821 }
  const changed = readEntryText(Buffer.from(fileForEntry(FILE.replace('[Peer]', 'PostUp = x\n[Peer]'), listen, 1_392)))
  const { endpoint, publicKey, allowedIps } = changed.peers[0] ?? assert.fail('no peer')
  assert.deepEqual([endpoint, changed.interface.mtu], [listen, 1_392])
  assert.deepEqual([formatKey(publicKey), allowedIps.length, changed.hooks.length], [key(2), 1, 1])
  assert.equal(changed.interface.privateKey && formatKey(changed.interface.privateKey.bytes), key(1))
  const small = fileForEntry(FILE.replace('[Peer]', 'MTU = 1300\n[Peer]'), listen, 1_392)
  assert.equal(readEntryText(Buffer.from(small)).interface.mtu, 1_300, 'a shorter one of its own stays')
})

test('from its text alone a file is planned for without its commands, and two servers cannot be listened for', () => {
  const withHook = FILE.replace('[Peer]', 'PostUp = rm -rf /\n[Peer]')
  const plan = planFromText({ form: 'tunnel', file: withHook, peers: 1, killSwitch: true })
  assert.deepEqual([plan.kind, plan.kind === 'tunnel' && plan.runsHooks], ['tunnel', false])
  const two = `${FILE}[Peer]\nPublicKey = ${key(3)}\nAllowedIPs = 10.0.0.0/8\nEndpoint = 192.0.2.9:51820\n`
  assert.throws(() => planFromText({ form: 'listen', file: two, peers: 1, listen: '127.0.0.1:0' }), {
    code: 'ENTRY_FILE_INVALID',
  })
})
