// The client's half of one session with one hop: handshake, renewal, control requests. A pure machine.
//
//   idle ──begin──► handshaking ──response──► established ──(every 120 s, or on demand: renewing)──► established
//                       │                          │
//                       └──(too many tries)──► failed ◄──(no renewal for 180 s)
//
// Handshake messages are repeated with fresh keys: a hop refuses an initiation that it has seen. How a message reaches
// the hop is not known here: it is handed to `Carry`, which is the socket, or the request that opens a flow, or the flow.

import type { Random } from '#crypto/random.ts'
import type { Command, Via } from '#forward/commands.ts'
import { Asker } from '#session/control-exchange.ts'
import { discard, finish, type InitiatorState, initiate, readCookieReply } from '#session/hop-handshake.ts'
import { type ControlAnswer, type ControlRequest, decodeControl } from '#wire/control.ts'
import { HOP_HANDSHAKE } from '#wire/packet-type.ts'
import { readU32 } from '#wire/transport.ts'

export const RENEW_AFTER_MS = 120_000
export const REJECT_AFTER_MS = 180_000
const MAX_TRIES = 2
const FIRST_RETRY_MS = 600
const MAX_RETRY_MS = 5_000
/** A renewal keeps trying for as long as the old keys live. */
const MAX_RENEWAL_TRIES = 14

/** Where a layer's initiation goes. */
export type Carry =
  | { readonly kind: 'via'; readonly via: Via }
  /** Inside the request that opens a flow to the hop; later ones take the flow. */
  | {
      readonly kind: 'open'
      readonly opener: Layer
      readonly flow: number
      readonly request: Omit<Extract<ControlRequest, { kind: 'open' }>, 'first'>
    }
  /** Through a flow that the opener joins to one of the hop's own, for both have the same token. */
  | { readonly kind: 'meet'; readonly opener: Layer; readonly flow: number; readonly token: Uint8Array }

/** Told once how a handshake ended. */
export type Settle = (isEstablished: boolean, now: number) => void

export type LayerState = 'idle' | 'handshaking' | 'established' | 'failed' | 'closed'

export interface LayerOptions {
  /** The hop's X25519 key. */
  readonly hopKey: Uint8Array
  readonly session: number
  readonly random: Random
  /** Commands for the data plane are pushed here. */
  readonly out: Command[]
  /** Index space shared by all layers of a client. */
  readonly indices: LayerIndices
}

/** Which layer a receiver index belongs to. */
export class LayerIndices {
  readonly #layers = new Map<number, Layer>()

  find(index: number): Layer | undefined {
    return this.#layers.get(index)
  }

  take(layer: Layer, random: Random): number {
    for (;;) {
      const bytes = random(4)
      const index = new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0)
      if (this.#layers.has(index)) continue
      this.#layers.set(index, layer)
      return index
    }
  }

  release(index: number): void {
    this.#layers.delete(index)
  }

  /** Hands a handshake message to the layer that its receiver index belongs to. */
  handleHandshake(bytes: Uint8Array, now: number): void {
    const at = bytes[0] === HOP_HANDSHAKE.response ? 8 : bytes[0] === HOP_HANDSHAKE.cookieReply ? 4 : -1
    if (at < 0) return
    const index = readU32(bytes, at)
    this.find(index)?.handleHandshake(bytes, index, now)
  }
}

interface Attempt {
  readonly carry: Carry
  readonly startedMs: number
  /** Settled with whether the hop answered, and when. */
  readonly settle: Settle
  readonly firstRetryMs: number
  readonly states: Map<number, InitiatorState>
  tries: number
  retryAtMs: number
  isOpened: boolean
  /** A cookie is taken once in each handshake: a reply cannot make us send again and again. */
  hasCookie: boolean
}

export class Layer {
  readonly session: number
  readonly #options: LayerOptions
  readonly #asker: Asker
  #state: LayerState = 'idle'
  #via: Via | undefined
  #attempt: Attempt | undefined
  #ticket: Uint8Array | undefined
  #sequence = 0
  #cookie: { readonly bytes: Uint8Array; readonly untilMs: number } | undefined
  #liveIndices: { readonly index: number; readonly expiresMs: number }[] = []
  #renewAtMs = Number.POSITIVE_INFINITY
  /** The time of the last input, for what ends outside of one. */
  #clockMs = 0
  /** Since when handshakes are asked for in vain; Infinity when none is. */
  unansweredSinceMs = Number.POSITIVE_INFINITY
  /** Round trip of the last handshake, in milliseconds. */
  handshakeMs = 0
  /** Called when a notice about a flow comes from the hop. */
  onNotice: (flow: number) => void = () => {}

  constructor(options: LayerOptions) {
    this.#options = options
    this.session = options.session
    const seed = options.random(2)
    this.#asker = new Asker((seed[0] ?? 0) * 256 + (seed[1] ?? 0))
  }

  get state(): LayerState {
    return this.#state
  }

  /** The key of the hop that this is a session with. */
  get hopKey(): Uint8Array {
    return this.#options.hopKey
  }

  /** Where this layer's packets go. */
  get via(): Via | undefined {
    return this.#via
  }

  /**
   * Begins a handshake along `carry`: the first one, or a renewal of the keys. One at a time: a handshake under way is
   * given up for the new one. `expectedMs` is the round trip that the hop's neighbours lead one to expect; `settle` is
   * called once.
   */
  begin(carry: Carry, now: number, settle: Settle = () => {}, expectedMs = this.handshakeMs): void {
    if (this.#state === 'closed' || this.#state === 'failed') return settle(false, now)
    this.#clockMs = now
    this.#dropAttempt(false)
    if (this.#state === 'idle') this.#state = 'handshaking'
    this.unansweredSinceMs = Math.min(this.unansweredSinceMs, now)
    this.#attempt = {
      carry,
      startedMs: now,
      settle,
      firstRetryMs: FIRST_RETRY_MS + 1.5 * expectedMs,
      states: new Map(),
      tries: 0,
      retryAtMs: now,
      isOpened: false,
      hasCookie: false,
    }
    this.#try(now)
  }

  /** Sends the session's packets along `via` from now on. */
  setVia(via: Via): void {
    this.#via = via
    if (this.#state === 'established') this.#options.out.push({ kind: 'setVia', session: this.session, via })
  }

  /** Asks the hop; `settle` gets `undefined` when it did not answer. */
  ask(request: ControlRequest, now: number, settle: (answer: ControlAnswer | undefined) => void): void {
    const bytes = this.#state === 'established' ? this.#asker.ask(request, now, settle) : undefined
    if (bytes === undefined) settle(undefined)
    else this.#options.out.push({ kind: 'sendControl', session: this.session, bytes })
  }

  /** A control message of the hop; garbage is ignored. */
  handleControl(bytes: Uint8Array, now: number): void {
    this.#clockMs = now
    const message = decodeControl(bytes)
    if (message?.type === 'answer') this.#asker.handleAnswer(message.number, message.answer)
    if (message?.type === 'notice') this.onNotice(message.flow)
  }

  /** A handshake message whose receiver index is ours. */
  handleHandshake(message: Uint8Array, index: number, now: number): void {
    this.#clockMs = now
    const attempt = this.#attempt
    const state = attempt?.states.get(index)
    if (attempt === undefined || state === undefined) return
    if (message[0] === HOP_HANDSHAKE.cookieReply) {
      const cookie = readCookieReply(state, message)
      if (cookie === undefined || attempt.hasCookie) return
      attempt.hasCookie = true
      this.#cookie = { bytes: cookie, untilMs: now + 120_000 }
      attempt.retryAtMs = now
      return this.#try(now)
    }
    const keys = finish(state, message)
    if (keys === undefined) return
    attempt.states.delete(index)
    this.handshakeMs = now - attempt.startedMs
    this.#establish(attempt, keys, now)
  }

  deadline(): number {
    const retryAtMs = this.#attempt?.retryAtMs ?? Number.POSITIVE_INFINITY
    const expiresMs = this.#liveIndices[0]?.expiresMs ?? Number.POSITIVE_INFINITY
    return Math.min(retryAtMs, this.#renewAtMs, expiresMs, this.#asker.deadline())
  }

  handleDeadline(now: number): void {
    this.#clockMs = now
    if (this.#attempt !== undefined && this.#attempt.retryAtMs <= now) this.#try(now)
    for (const bytes of this.#asker.repeat(now)) {
      this.#options.out.push({ kind: 'sendControl', session: this.session, bytes })
    }
    while (this.#liveIndices[0] !== undefined && this.#liveIndices[0].expiresMs <= now) this.#expireOldest()
    if (this.#state === 'established' && this.#liveIndices.length === 0) return this.#fail()
    if (this.#renewAtMs <= now && this.#via !== undefined) {
      this.#renewAtMs = now + RENEW_AFTER_MS / 12
      if (this.#attempt === undefined) this.begin({ kind: 'via', via: this.#via }, now)
    }
  }

  /** The clock stood still for so long: at the hop the keys have aged. */
  handleSleep(sleptMs: number): void {
    this.#renewAtMs -= sleptMs
    this.#liveIndices = this.#liveIndices.map(({ index, expiresMs }) => ({ index, expiresMs: expiresMs - sleptMs }))
  }

  /** Ends the session at this side; the hop forgets it when its keys expire. */
  close(): void {
    if (this.#state === 'closed') return
    const wasInstalled = this.#ticket !== undefined
    this.#state = 'closed'
    this.#release()
    if (wasInstalled) this.#options.out.push({ kind: 'removeSession', session: this.session })
  }

  #try(now: number): void {
    const attempt = this.#attempt
    if (attempt === undefined) return
    const maxTries = this.#state === 'established' ? MAX_RENEWAL_TRIES : MAX_TRIES
    if (attempt.tries >= maxTries) {
      if (this.#state === 'handshaking') return this.#fail()
      return this.#dropAttempt(false)
    }
    attempt.retryAtMs = now + Math.min(attempt.firstRetryMs * 2 ** attempt.tries, MAX_RETRY_MS)
    attempt.tries++
    this.#send(attempt, now)
  }

  #send(attempt: Attempt, now: number): void {
    const { hopKey, random, indices, out } = this.#options
    const localIndex = indices.take(this, random)
    const cookie = this.#cookie !== undefined && this.#cookie.untilMs > now ? this.#cookie.bytes : undefined
    const renewal = this.#ticket === undefined ? {} : { ticket: this.#ticket, sequence: ++this.#sequence }
    const { message, state } = initiate({
      staticPublic: hopKey,
      localIndex,
      random,
      ...renewal,
      ...(cookie && { cookie }),
    })
    attempt.states.set(localIndex, state)
    const { carry } = attempt
    if (carry.kind === 'via') {
      out.push({ kind: 'sendHandshake', via: carry.via, bytes: message })
    } else if (attempt.isOpened) {
      const via: Via = { kind: 'flow', session: carry.opener.session, flow: carry.flow }
      out.push({ kind: 'sendHandshake', via, bytes: message })
    } else {
      attempt.isOpened = true
      const { session } = carry.opener
      const { flow } = carry
      out.push({ kind: 'installNesting', session, flow })
      const request =
        carry.kind === 'open'
          ? { ...carry.request, first: message }
          : ({ kind: 'meet', flow, token: carry.token } as const)
      carry.opener.ask(request, now, answer => {
        if (this.#attempt !== attempt) return
        if (answer?.kind === 'open') return
        if (answer?.kind === 'meet') {
          out.push({ kind: 'sendHandshake', via: { kind: 'flow', session, flow }, bytes: message })
          return
        }
        // The hop before refused the flow, or said nothing at all: no use repeating.
        if (this.#state === 'handshaking') this.#fail()
        else this.#dropAttempt(false)
      })
    }
  }

  #establish(attempt: Attempt, keys: NonNullable<ReturnType<typeof finish>>, now: number): void {
    const { out, random } = this.#options
    const keypair = {
      localIndex: keys.localIndex,
      remoteIndex: keys.remoteIndex,
      send: keys.send,
      receive: keys.receive,
    }
    if (this.#ticket === undefined) {
      const { carry } = attempt
      this.#via = carry.kind === 'via' ? carry.via : { kind: 'flow', session: carry.opener.session, flow: carry.flow }
      out.push({ kind: 'installSession', session: this.session, role: 'initiator', via: this.#via, keys: keypair })
      this.#ticket = keys.ticket
    } else {
      out.push({ kind: 'installKeys', session: this.session, keys: keypair })
    }
    this.#state = 'established'
    this.unansweredSinceMs = Number.POSITIVE_INFINITY
    this.#liveIndices.push({ index: keys.localIndex, expiresMs: now + REJECT_AFTER_MS })
    const jitter = (random(1)[0] ?? 0) / 255
    this.#renewAtMs = now + RENEW_AFTER_MS * (0.9 + 0.1 * jitter)
    if (this.#liveIndices.length > 3) this.#expireOldest()
    this.#dropAttempt(true)
  }

  #expireOldest(): void {
    const oldest = this.#liveIndices.shift()
    if (oldest === undefined) return
    this.#options.indices.release(oldest.index)
    this.#options.out.push({ kind: 'removeKeys', session: this.session, localIndex: oldest.index })
  }

  #fail(): void {
    const wasInstalled = this.#ticket !== undefined
    this.#state = 'failed'
    this.#release()
    if (wasInstalled) this.#options.out.push({ kind: 'removeSession', session: this.session })
  }

  #release(): void {
    for (const { index } of this.#liveIndices) this.#options.indices.release(index)
    this.#liveIndices = []
    this.#renewAtMs = Number.POSITIVE_INFINITY
    this.#asker.close()
    this.#dropAttempt(false)
    this.#ticket?.fill(0)
  }

  #dropAttempt(isEstablished: boolean): void {
    const attempt = this.#attempt
    if (attempt === undefined) return
    this.#attempt = undefined
    for (const [index, state] of attempt.states) {
      this.#options.indices.release(index)
      discard(state)
    }
    attempt.settle(isEstablished, this.#clockMs)
  }
}
