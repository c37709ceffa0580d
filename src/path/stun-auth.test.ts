import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { hmacSha1, hmacSha256, longTermKey } from '#crypto/hmac.ts'
import { seededRandom } from '#crypto/random.ts'
import { decodeStun, readU32Value, STUN_ATTRIBUTE, STUN_METHOD, stunAttribute } from '#wire/stun.ts'
import { readXorAddress } from '#wire/stun-value.ts'
import { iceKey, iceText, isAuthentic, sealStun } from './stun-auth.ts'

const VECTORS = new URL('../../../shared/vectors/stun-turn/rfc5769.json', import.meta.url)
const random = seededRandom('auth')

interface Vector {
  readonly key: string
  readonly packet: string
  readonly username: string
  readonly realm: string
  readonly password_saslprep: string
  readonly priority: string
  readonly xor_mapped_address: string
  readonly port: number
}

test('the messages of RFC 5769 are authentic under their keys, and no longer when a bit is flipped', t => {
  if (!existsSync(VECTORS)) return t.skip('the vectors are not there')
  const vectors = JSON.parse(readFileSync(VECTORS, 'utf8')) as Record<string, Vector>
  for (const [name, vector] of Object.entries(vectors)) {
    const key =
      name === 'req-long-term'
        ? longTermKey('md5', vector.username, vector.realm, vector.password_saslprep)
        : Buffer.from(vector.key)
    const bytes = Buffer.from(vector.packet, 'hex')
    const message = decodeStun(bytes)
    assert.ok(message && isAuthentic(bytes, message, key), name)
    assert.equal(isAuthentic(bytes, message, Buffer.from('another key')), false)
    for (let bit = 0; bit < bytes.length * 8; bit++) {
      const bent = new Uint8Array(bytes)
      bent[bit >> 3] = (bent[bit >> 3] ?? 0) ^ (1 << (bit & 7))
      const back = decodeStun(bent)
      const isTail = message.sha1At !== undefined && bit >= (message.sha1At + 24) * 8
      if (!isTail) assert.ok(back === undefined || !isAuthentic(bent, back, key), `${name} bit ${bit}`)
    }
  }
  const request = decodeStun(Buffer.from(vectors['req-short-term']?.packet ?? '', 'hex'))
  const priority = request && readU32Value(stunAttribute(request, STUN_ATTRIBUTE.priority))
  assert.equal(priority?.toString(16), vectors['req-short-term']?.priority)
  const response = decodeStun(Buffer.from(vectors['resp-ipv4']?.packet ?? '', 'hex'))
  const mapped = response && stunAttribute(response, STUN_ATTRIBUTE.xorMappedAddress)
  assert.deepEqual(readXorAddress(mapped, response?.transaction ?? new Uint8Array(12)), {
    host: vectors['resp-ipv4']?.xor_mapped_address,
    port: vectors['resp-ipv4']?.port,
  })
})

test('both kinds of integrity hold, and a message without either is never authentic', () => {
  const message = { class: 'request', method: STUN_METHOD.binding, transaction: random(12), attributes: [] } as const
  const key = random(20)
  for (const kind of ['sha1', 'sha256'] as const) {
    const bytes = sealStun(message, { kind, key })
    const back = decodeStun(bytes)
    assert.ok(back && isAuthentic(bytes, back, key))
    assert.ok(!isAuthentic(bytes, back, random(20)))
  }
  const plain = sealStun(message)
  const back = decodeStun(plain)
  assert.ok(back && !isAuthentic(plain, back, key))
})

test('credentials in text have the characters that ICE allows', () => {
  assert.match(iceText(random(6)), /^[A-Za-z0-9+/]{8}$/)
  assert.match(Buffer.from(iceKey(random(18)).key).toString(), /^[A-Za-z0-9+/]{24}$/)
})

test('the digests are those of RFC 2202 and RFC 4231', () => {
  const hex = (bytes: Uint8Array) => Buffer.from(bytes).toString('hex')
  const key = new Uint8Array(20).fill(0x0b)
  assert.equal(hex(hmacSha1(key, Buffer.from('Hi There'))), 'b617318655057264e28bc0b6fb378c8ef146be00')
  assert.equal(
    hex(hmacSha256(key, Buffer.from('Hi There'))),
    'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7',
  )
})
