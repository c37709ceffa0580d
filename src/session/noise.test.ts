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
  /** After the handshake, the initiator's cipher comes first and both are used, whatever the pattern. */
  isInitiatorFirst?: boolean
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
  NK1: { pre: ['', 's'], messages: ['e', 'e ee es'] },
  NX1: { pre: ['', ''], messages: ['e', 'e ee s', 'es'] },
  X1N: { pre: ['', ''], messages: ['e', 'e ee', 's', 'se'] },
  X1K: { pre: ['', 's'], messages: ['e es', 'e ee', 's', 'se'] },
  XK1: { pre: ['', 's'], messages: ['e', 'e ee es', 's se'] },
  X1K1: { pre: ['', 's'], messages: ['e', 'e ee es', 's', 'se'] },
  X1X: { pre: ['', ''], messages: ['e', 'e ee s es', 's', 'se'] },
  XX1: { pre: ['', ''], messages: ['e', 'e ee s', 'es s se'] },
  X1X1: { pre: ['', ''], messages: ['e', 'e ee s', 'es s', 'se'] },
  K1N: { pre: ['s', ''], messages: ['e', 'e ee', 'se'] },
  K1K: { pre: ['s', 's'], messages: ['e es', 'e ee', 'se'] },
  KK1: { pre: ['s', 's'], messages: ['e', 'e ee se es'] },
  K1K1: { pre: ['s', 's'], messages: ['e', 'e ee es', 'se'] },
  K1X: { pre: ['s', ''], messages: ['e', 'e ee s es', 'se'] },
  KX1: { pre: ['s', ''], messages: ['e', 'e ee se s', 'es'] },
  K1X1: { pre: ['s', ''], messages: ['e', 'e ee s', 'se es'] },
  I1N: { pre: ['', ''], messages: ['e s', 'e ee', 'se'] },
  I1K: { pre: ['', 's'], messages: ['e es s', 'e ee', 'se'] },
  IK1: { pre: ['', 's'], messages: ['e s', 'e ee se es'] },
  I1K1: { pre: ['', 's'], messages: ['e s', 'e ee es', 'se'] },
  I1X: { pre: ['', ''], messages: ['e s', 'e ee s es', 'se'] },
  IX1: { pre: ['', ''], messages: ['e s', 'e ee se s', 'es'] },
  I1X1: { pre: ['', ''], messages: ['e s', 'e ee s', 'se es'] },
}

/** The pattern that a protocol name stands for; undefined for one this machine does not speak. */
function patternOf(name: string): NoisePattern | undefined {
  const match = /^Noise_([NKXI]1?[NKXI]?1?)((?:psk\d\+?)*)_25519_ChaChaPoly_(BLAKE2s|SHA256)$/.exec(name)
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
    const turn = vector.isInitiatorFirst ? i : i + count
    const who = (isOneWay && !vector.isInitiatorFirst) || turn % 2 === 0 ? 'initiator' : 'responder'
    const nonce = counterNonce(counters[who]++)
    const none = new Uint8Array(0)
    assert.equal(Buffer.from(chachaSeal(split[who], nonce, hex(payload), none)).toString('hex'), ciphertext)
    assert.ok(chachaOpen(split[who], nonce, hex(ciphertext), none))
  }
}

/** The blocks of `key=value` lines in flynn's file, as the other files have them. */
function flynnVectors(text: string): Vector[] {
  return text
    .trim()
    .split(/\n\n+/)
    .map(block => {
      const fields = new Map(block.split('\n').map(line => line.split('=') as [string, string]))
      const either = (name: string, key: string) => {
        const value = fields.get(key)
        return value === undefined ? {} : { [`init_${name}`]: value, [`resp_${name}`]: value }
      }
      const psk = either('psk', 'preshared_key')
      const vector: Vector = { ...either('prologue', 'prologue'), ...psk, messages: [], isInitiatorFirst: true }
      vector.protocol_name = fields.get('handshake') ?? ''
      for (const who of ['init', 'resp'] as const) {
        vector[`${who}_static`] = fields.get(`${who}_static`) ?? ''
        vector[`${who}_ephemeral`] = fields.get(`gen_${who}_ephemeral`) ?? ''
      }
      for (let i = 0; fields.has(`msg_${i}_payload`); i++) {
        const part = (name: string) => fields.get(`msg_${i}_${name}`) ?? ''
        vector.messages.push({ payload: part('payload'), ciphertext: part('ciphertext') })
      }
      const known = BASES[/_([NKXI]+)(?:psk|_)/.exec(vector.protocol_name)?.[1] ?? '']?.pre
      const publicOf = (secret: string) => Buffer.from(keys(secret)?.publicKey ?? []).toString('hex')
      if (known?.[0] === 's') vector.resp_remote_static = publicOf(vector.init_static ?? '')
      if (known?.[1] === 's') vector.init_remote_static = publicOf(vector.resp_static ?? '')
      return vector
    })
}

/** `NoisePSK_` is how protocols were named before revision 31, and mixed otherwise. */
const isOtherProtocol = (name: string) => /^NoisePSK_|fallback/.test(name)

for (const [file, expected] of [
  ['cacophony-25519.json', 84],
  ['snow-25519.json', 62],
  ['noise-c-basic-25519.json', 26],
  ['flynn-noise-25519-chachapoly.txt', 299],
] as const) {
  test(`every 25519 ChaChaPoly case of ${file} is reproduced byte for byte`, t => {
    const url = new URL(file, VECTORS)
    if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
    const text = readFileSync(url, 'utf8')
    const vectors = file.endsWith('.txt') ? flynnVectors(text) : (JSON.parse(text) as { vectors: Vector[] }).vectors
    let ran = 0
    for (const vector of vectors) {
      const name = vector.protocol_name ?? vector.name ?? ''
      if (!/_25519_ChaChaPoly_(BLAKE2s|SHA256)$/.test(name) || isOtherProtocol(name)) continue
      const pattern = patternOf(name)
      assert.ok(pattern, `no pattern for ${name}`)
      run(vector, pattern)
      ran++
    }
    assert.equal(ran, expected)
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

test('a recorded handshake of two WireGuard kernels is reproduced byte for byte, both sides', t => {
  const url = new URL('../wireguard/wireshark-ping-tcp-full-secrets.json', VECTORS)
  if (!existsSync(url)) return t.skip('the third-party vectors are not beside the repository')
  const { handshakes } = JSON.parse(readFileSync(url, 'utf8')) as { handshakes: Record<string, string>[] }
  const pattern: NoisePattern = {
    name: 'Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s',
    hash: 'blake2s256',
    pre: { initiator: [], responder: ['s'] },
    messages: [
      ['e', 'es', 's', 'ss'],
      ['e', 'ee', 'se', 'psk'],
    ],
  }
  for (const recorded of handshakes) {
    const prologue = Buffer.from('WireGuard v1 zx2c4 Jason@zx2c4.com')
    const side = (name: 'initiator' | 'responder') => ({
      pattern,
      prologue,
      s: x25519FromPrivate(hex(recorded[`static_private_${name}`])),
      e: x25519FromPrivate(hex(recorded[`ephemeral_private_${name}`])),
      psks: [hex(recorded['preshared_key'])],
    })
    const rs = side('responder').s.publicKey
    const initiator = new NoiseHandshake({ ...side('initiator'), isInitiator: true, rs })
    const responder = new NoiseHandshake({ ...side('responder'), isInitiator: false })
    const initiation = hex(recorded['initiation']).subarray(8, 8 + 108)
    const response = hex(recorded['response']).subarray(12, 12 + 48)
    const timestamp = hex(recorded['timestamp_tai64n'])
    const none = new Uint8Array(0)
    assert.equal(Buffer.from(initiator.write(timestamp) ?? none).toString('hex'), initiation.toString('hex'))
    assert.equal(Buffer.from(responder.read(initiation) ?? none).toString('hex'), timestamp.toString('hex'))
    const { remoteStatic } = responder
    assert.ok(remoteStatic && side('initiator').s.publicKey.every((byte, i) => byte === remoteStatic[i]))
    assert.equal(Buffer.from(responder.write(none) ?? none).toString('hex'), response.toString('hex'))
    assert.ok(initiator.read(response))
    const split = initiator.split()
    assert.deepEqual(responder.split(), split)
    assert.equal(Buffer.from(split.hash).toString('hex'), recorded['hash_final'])
    assert.equal(Buffer.from(split.initiator).toString('hex'), recorded['transport_key_initiator_to_responder'])
    assert.equal(Buffer.from(split.responder).toString('hex'), recorded['transport_key_responder_to_initiator'])
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

test('a forged message leaves the machine as it was: the true one is still read', () => {
  const pattern = patternOf('Noise_XXpsk3_25519_ChaChaPoly_BLAKE2s')
  assert.ok(pattern)
  const side = (isInitiator: boolean) =>
    new NoiseHandshake({
      pattern,
      isInitiator,
      prologue: new Uint8Array(0),
      s: x25519FromPrivate(Buffer.alloc(32, isInitiator ? 1 : 2)),
      psks: [Buffer.alloc(32, 3)],
    })
  const [initiator, responder] = [side(true), side(false)]
  for (const [writer, reader] of [
    [initiator, responder],
    [responder, initiator],
    [initiator, responder],
  ] as const) {
    const message = Buffer.from(writer.write(Buffer.from('payload')) ?? [])
    for (const at of [0, 31, message.length - 1]) {
      const forged = Uint8Array.from(message)
      forged[at] = (forged[at] ?? 0) ^ 1
      assert.equal(reader.read(forged), undefined)
    }
    const received = Buffer.from(message)
    assert.equal(Buffer.from(reader.read(received) ?? []).toString(), 'payload')
    received.fill(0)
  }
  assert.deepEqual(initiator.split(), responder.split())
})

test('calls out of turn, and keys that are missing, are bugs and throw', () => {
  const pattern = patternOf('Noise_NK_25519_ChaChaPoly_BLAKE2s')
  assert.ok(pattern)
  const s = x25519FromPrivate(Buffer.alloc(32, 7))
  const none = new Uint8Array(0)
  const initiator = new NoiseHandshake({ pattern, isInitiator: true, prologue: none, rs: s.publicKey })
  assert.throws(() => initiator.read(none), /not the turn/)
  assert.throws(() => initiator.split(), /not finished/)
  initiator.write(none)
  assert.throws(() => initiator.write(none), /not the turn/)
  assert.throws(() => new NoiseHandshake({ pattern, isInitiator: true, prologue: none }), /is missing/)
})

test('what is wiped is zero: the ephemeral key after a handshake, and after one that was given up', () => {
  const pattern = patternOf('Noise_NN_25519_ChaChaPoly_BLAKE2s')
  assert.ok(pattern)
  const none = new Uint8Array(0)
  const e = [1, 2].map(byte => x25519FromPrivate(Buffer.alloc(32, byte)))
  const [a, b] = e.map((e, i) => new NoiseHandshake({ pattern, isInitiator: i === 0, prologue: none, e }))
  assert.ok(a && b)
  const first = a.write(none)
  assert.ok(first && b.read(first))
  b.write(none)
  b.split()
  a.wipe()
  for (const { privateKey } of e) assert.deepEqual(Uint8Array.from(privateKey), new Uint8Array(32))
})
