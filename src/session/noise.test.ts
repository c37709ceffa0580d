import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import { chachaOpen, chachaSeal, counterNonce } from '#crypto/chacha20poly1305.ts'
import { mlKemFromSeed } from '#crypto/mlkem768.ts'
import { x25519FromPrivate } from '#crypto/x25519.ts'
import { NoiseHandshake, type NoiseOptions, type NoisePattern, type NoiseToken } from './noise.ts'

const VECTORS = new URL('../../../shared/vectors/noise/', import.meta.url)

interface Vector {
  protocol_name?: string
  name?: string
  fallback?: boolean
  init_prologue?: string
  init_psks?: string[]
  resp_psks?: string[]
  init_psk?: string
  init_static?: string
  init_ephemeral?: string
  init_remote_static?: string
  resp_prologue?: string
  resp_psk?: string
  resp_static?: string
  resp_ephemeral?: string
  resp_remote_static?: string
  handshake_hash?: string
  messages: { payload: string; ciphertext: string }[]
}

type Base = { pre: [string, string]; messages: string[] }
const BASES: Record<string, Base> = {
  N: { pre: ['', 's'], messages: ['e es'] },
  K: { pre: ['s', 's'], messages: ['e es ss'] },
  X: { pre: ['', 's'], messages: ['e es s ss'] },
  NN: { pre: ['', ''], messages: ['e', 'e ee'] },
  NK: { pre: ['', 's'], messages: ['e es', 'e ee'] },
  NX: { pre: ['', ''], messages: ['e', 'e ee s es'] },
  XN: { pre: ['', ''], messages: ['e', 'e ee', 's se'] },
  XK: { pre: ['', 's'], messages: ['e es', 'e ee', 's se'] },
  XX: { pre: ['', ''], messages: ['e', 'e ee s es', 's se'] },
  KN: { pre: ['s', ''], messages: ['e', 'e ee se'] },
  KK: { pre: ['s', 's'], messages: ['e es ss', 'e ee se'] },
  KX: { pre: ['s', ''], messages: ['e', 'e ee se s es'] },
  IN: { pre: ['', ''], messages: ['e s', 'e ee se'] },
  IK: { pre: ['', 's'], messages: ['e es s ss', 'e ee se'] },
  IX: { pre: ['', ''], messages: ['e s', 'e ee se s es'] },
}

/** The pattern that a protocol name stands for; undefined for one this machine does not speak. */
function patternOf(name: string): NoisePattern | undefined {
  const match = /^Noise_([NKXI]{1,2})((?:psk\d\+?)*)_25519_ChaChaPoly_(BLAKE2s|SHA256)$/.exec(name)
  const base = match && BASES[match[1] ?? '']
  if (!match || !base) return undefined
  const messages = base.messages.map(message => message.split(' ') as NoiseToken[])
  for (const [, position] of (match[2] ?? '').matchAll(/psk(\d)/g)) {
    if (position === '0') messages[0]?.unshift('psk')
    else messages[Number(position) - 1]?.push('psk')
  }
  return {
    name,
    hash: match[3] === 'SHA256' ? 'sha256' : 'blake2s256',
    pre: { initiator: base.pre[0] === 's' ? ['s'] : [], responder: base.pre[1] === 's' ? ['s'] : [] },
    messages,
  }
}

const hex = (text: string | undefined) => Buffer.from(text ?? '', 'hex')
const keys = (text: string | undefined) => (text ? x25519FromPrivate(hex(text)) : undefined)

function run(vector: Vector, pattern: NoisePattern): void {
  const side = (who: 'init' | 'resp'): NoiseHandshake => {
    const s = keys(vector[`${who}_static`])
    const e = keys(vector[`${who}_ephemeral`])
    const psk = vector[`${who}_psk`]
    const options: NoiseOptions = {
      pattern,
      isInitiator: who === 'init',
      prologue: hex(vector[`${who}_prologue`]),
      psks: (vector[`${who}_psks`] ?? (psk ? [psk] : [])).map(hex),
      ...(s && { s }),
      ...(e && { e }),
      ...(vector[`${who}_remote_static`] && { rs: hex(vector[`${who}_remote_static`]) }),
    }
    return new NoiseHandshake(options)
  }
  const initiator = side('init')
  const responder = side('resp')
  const count = pattern.messages.length
  for (const [i, { payload, ciphertext }] of vector.messages.slice(0, count).entries()) {
    const [writer, reader] = i % 2 === 0 ? [initiator, responder] : [responder, initiator]
    const written = writer.write(hex(payload))
    assert.equal(written && Buffer.from(written).toString('hex'), ciphertext, `${pattern.name} message ${i}`)
    assert.equal(Buffer.from(reader.read(hex(ciphertext)) ?? [0]).toString('hex'), payload)
  }
  assert.equal(initiator.isFinished, true)
  const split = initiator.split()
  assert.deepEqual(responder.split(), split)
  if (vector.handshake_hash) assert.equal(Buffer.from(split.hash).toString('hex'), vector.handshake_hash)
  const isOneWay = count === 1
  const counters = { initiator: 0, responder: 0 }
  for (const [i, { payload, ciphertext }] of vector.messages.slice(count).entries()) {
    const who = isOneWay || (i + count) % 2 === 0 ? 'initiator' : 'responder'
    const nonce = counterNonce(counters[who]++)
    const none = new Uint8Array(0)
    assert.equal(Buffer.from(chachaSeal(split[who], nonce, hex(payload), none)).toString('hex'), ciphertext)
    assert.ok(chachaOpen(split[who], nonce, hex(ciphertext), none))
  }
}

for (const [file, least] of [
  ['cacophony-25519.json', 50],
  ['snow-25519.json', 30],
  ['noise-c-basic-25519.json', 25],
] as const) {
  test(`every 25519 ChaChaPoly case of ${file} is reproduced byte for byte`, t => {
    const url = new URL(file, VECTORS)
    if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
    const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Vector[] }
    let ran = 0
    for (const vector of vectors) {
      const pattern = patternOf(vector.protocol_name ?? vector.name ?? '')
      if (pattern === undefined || vector.fallback) continue
      run(vector, pattern)
      ran++
    }
    assert.ok(ran >= least, `only ${ran} cases ran`)
    t.diagnostic(`${ran} cases`)
  })
}

test('the Noise_XXhfs case with ML-KEM-768 gives the published hash and keys', t => {
  const url = new URL('xxhfs-mlkem768-libp2p.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  const { vectors } = JSON.parse(readFileSync(url, 'utf8')) as { vectors: Record<string, string>[] }
  const pattern: NoisePattern = {
    name: 'Noise_XXhfs_25519+MLKEM768_ChaChaPoly_SHA256',
    hash: 'sha256',
    pre: { initiator: [], responder: [] },
    messages: [
      ['e', 'e1'],
      ['e', 'ee', 'ekem1', 's', 'es'],
      ['s', 'se'],
    ],
  }
  for (const vector of vectors) {
    // The responder's encapsulation is not reproducible with node:crypto, so the initiator's side is checked.
    const initiator = new NoiseHandshake({
      pattern: { ...pattern, name: vector['protocol_name'] ?? '' },
      isInitiator: true,
      prologue: hex(vector['prologue']),
      s: x25519FromPrivate(hex(vector['static_i_private'])),
      e: x25519FromPrivate(hex(vector['ephemeral_dh_i_private'])),
      kem: mlKemFromSeed(hex(vector['kem_keygen_seed_d_z'])),
    })
    const none = new Uint8Array(0)
    assert.equal(Buffer.from(initiator.write(none) ?? none).toString('hex'), vector['msg_a'])
    assert.ok(initiator.read(hex(vector['msg_b'])))
    assert.equal(Buffer.from(initiator.write(none) ?? none).toString('hex'), vector['msg_c'])
    const split = initiator.split()
    assert.equal(Buffer.from(split.hash).toString('hex'), vector['handshake_hash'])
    assert.equal(Buffer.from(split.initiator).toString('hex'), vector['cs1_k'])
    assert.equal(Buffer.from(split.responder).toString('hex'), vector['cs2_k'])
  }
})

test('a flipped bit anywhere in a message, another prologue or another name is refused', () => {
  const pattern = patternOf('Noise_NK_25519_ChaChaPoly_BLAKE2s')
  assert.ok(pattern)
  const s = x25519FromPrivate(Buffer.alloc(32, 7))
  const begin = (prologue: string, name = pattern.name) => {
    const options = { pattern: { ...pattern, name }, prologue: Buffer.from(prologue) }
    return {
      initiator: new NoiseHandshake({ ...options, isInitiator: true, rs: s.publicKey }),
      responder: new NoiseHandshake({ ...options, isInitiator: false, s }),
    }
  }
  const message = begin('a').initiator.write(Buffer.from('hello'))
  assert.ok(message)
  assert.ok(begin('a').responder.read(message))
  assert.equal(begin('b').responder.read(message), undefined)
  assert.equal(begin('a', 'Noise_NK_25519_ChaChaPoly_BLAKE2S').responder.read(message), undefined)
  for (let bit = 0; bit < message.length * 8; bit++) {
    const flipped: Uint8Array = Uint8Array.from(message)
    flipped[bit >> 3] = (flipped[bit >> 3] ?? 0) ^ (1 << (bit & 7))
    // The top bit of an X25519 public key is ignored in the shared secret, but not in the transcript.
    assert.equal(begin('a').responder.read(flipped), undefined, `bit ${bit}`)
  }
  for (let length = 0; length < message.length; length++) {
    assert.equal(begin('a').responder.read(message.subarray(0, length)), undefined, `cut to ${length}`)
  }
})
