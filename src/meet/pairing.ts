// Pairing: the host shows a code, the guest types it (docs/spec/pairing.md). Pure machines; letters go in and drafts come out.
//
//   guest                                     host
//     hello (share, reply key)      ─────────►  waiting → answered: the code's one guess is taken
//     answered ◄─────────  answer (share, tag, reply key)
//     the tag is wrong: the code was wrong, both end
//     confirm (tag, card)           ─────────►  the tag is wrong: somebody guessed, the code is dead
//     paired   ◄─────────  done (card)          paired
//
// A letter may be lost or come twice: the guest repeats its last one, the host answers a repeated one as before. A second
// guest gets `refused`. Whatever happens, a code ends after ten minutes.

import { createHmac, timingSafeEqual } from 'node:crypto'
import { copyBytes } from '#bytes/copy.ts'
import { chachaOpen, chachaSeal } from '#crypto/chacha20poly1305.ts'
import { type CpaceShare, cpaceKey, makeCpaceShare } from '#crypto/cpace.ts'
import { hkdf } from '#crypto/hkdf.ts'
import type { Random } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import { type DeviceCard, decodeCard, encodeCard } from '#wire/device-card.ts'
import { encodePair, type PairMessage, type PairRefusal } from '#wire/pairing.ts'
import { type PairCode, placeKey, toWords } from './code.ts'
import type { Draft } from './letter.ts'

/** A code lives this long. */
export const CODE_LIFETIME_MS = 600_000
/** The guest says it again when nothing came back for this long. */
const REPEAT_MS = 15_000
/** Refusals to further guests; a flood gets none. */
const MAX_REFUSALS = 8
const CHANNEL = Buffer.from('hoplite pair v1 ')
const NO_SALT = new Uint8Array(32)

export type PairFailure = PairRefusal | 'nobodyAnswered' | 'expired' | 'badCard'

export type PairState =
  /** The host shows its code; the guest looks for the host. */
  | { readonly kind: 'waiting' }
  /** The other side is there. */
  | { readonly kind: 'answered' }
  /** Both know each other. The words are the same on both sides, or somebody stands between. */
  | { readonly kind: 'paired'; readonly card: DeviceCard; readonly words: readonly string[] }
  | { readonly kind: 'failed'; readonly reason: PairFailure }

export interface PairingOptions {
  readonly code: PairCode
  readonly card: DeviceCard
  readonly random: Random
  /** A key for this pairing alone (keyInBucket). */
  readonly newKey: () => XWingKeyPair
}

/** What both sides do: a state, drafts to post, a key that the other's letters are sealed for, a deadline. */
abstract class PairingSide {
  protected readonly options: PairingOptions
  protected readonly drafts: Draft[] = []
  #state: PairState = { kind: 'waiting' }
  readonly expiresMs: number

  constructor(options: PairingOptions, now: number) {
    this.options = options
    this.expiresMs = now + CODE_LIFETIME_MS
  }

  get state(): PairState {
    return this.#state
  }

  get isOver(): boolean {
    return this.#state.kind === 'paired' || this.#state.kind === 'failed'
  }

  /** The drafts that are to be posted now. */
  take(): Draft[] {
    return this.drafts.splice(0)
  }

  protected become(state: PairState): void {
    this.#state = state
  }

  protected fail(reason: PairFailure): void {
    this.become({ kind: 'failed', reason })
  }

  protected say(to: Uint8Array, message: PairMessage): void {
    this.drafts.push({ to, content: encodePair(message) })
  }
}

/** The device that shows the code. */
export class PairingHost extends PairingSide {
  /** Letters for the place, and then for this pairing alone, open with these. */
  readonly keys: readonly XWingKeyPair[]
  readonly #placeKey: XWingKeyPair
  readonly #ownKey: XWingKeyPair
  #guest: { readonly session: Uint8Array; readonly replyKey: Uint8Array; readonly keys: PairKeys } | undefined
  #answer: PairMessage | undefined
  #done: PairMessage | undefined
  #refusals = 0

  constructor(options: PairingOptions, now: number) {
    super(options, now)
    this.#placeKey = placeKey(options.code.place)
    this.#ownKey = options.newKey()
    this.keys = [this.#placeKey, this.#ownKey]
  }

  handle(message: PairMessage, now: number): void {
    this.handleDeadline(now)
    const guest = this.#guest
    const isGuest = guest !== undefined && isEqual(guest.session, message.session)
    if (message.kind === 'hello') {
      if (guest === undefined && this.state.kind === 'waiting') this.#answerTo(message)
      else if (isGuest && this.#answer !== undefined && this.state.kind === 'answered')
        this.say(guest.replyKey, this.#answer)
      else if (!isGuest && ++this.#refusals <= MAX_REFUSALS)
        this.say(copyBytes(message.replyKey), { kind: 'refused', session: copyBytes(message.session), reason: 'used' })
    }
    if (!isGuest) return
    if (message.kind === 'confirm') this.#finish(message, guest)
    if (message.kind === 'refused' && this.state.kind === 'answered') this.fail(message.reason)
  }

  deadline(): number {
    return this.isOver ? Number.POSITIVE_INFINITY : this.expiresMs
  }

  handleDeadline(now: number): void {
    if (now >= this.deadline()) this.fail(this.state.kind === 'waiting' ? 'nobodyAnswered' : 'expired')
  }

  /** Takes the code back; a guest that is on its way is told. */
  withdraw(): void {
    if (this.isOver) return
    const guest = this.#guest
    if (guest !== undefined) this.say(guest.replyKey, { kind: 'refused', session: guest.session, reason: 'withdrawn' })
    this.fail('withdrawn')
  }

  /** From here on the code is used, whoever this is. */
  #answerTo(hello: PairMessage & { kind: 'hello' }): void {
    const session = copyBytes(hello.session)
    const replyKey = copyBytes(hello.replyKey)
    const own = shareFor(this.options, session)
    const keys = pairKeys(own, hello.share, session, {
      initiatorShare: hello.share,
      initiatorData: replyKey,
      responderShare: own.share,
      responderData: this.#ownKey.publicKey,
    })
    // A share that is none was sent by nobody who wants to pair, but it took the guess all the same.
    if (keys === undefined) return this.fail('wrongCode')
    this.#guest = { session, replyKey, keys }
    this.#answer = { kind: 'answer', session, share: own.share, tag: keys.hostTag, replyKey: this.#ownKey.publicKey }
    this.say(replyKey, this.#answer)
    this.become({ kind: 'answered' })
  }

  #finish(
    confirm: PairMessage & { kind: 'confirm' },
    guest: { readonly session: Uint8Array; readonly replyKey: Uint8Array; readonly keys: PairKeys },
  ): void {
    if (this.state.kind === 'paired' && this.#done !== undefined) return this.say(guest.replyKey, this.#done)
    if (this.state.kind !== 'answered') return
    const isRight = isEqual(confirm.tag, guest.keys.guestTag)
    const card = isRight ? openCard(confirm.sealedCard, guest.keys.guestCardKey, guest.session) : undefined
    if (card === undefined) {
      this.say(guest.replyKey, { kind: 'refused', session: guest.session, reason: 'wrongCode' })
      return this.fail(isRight ? 'badCard' : 'wrongCode')
    }
    const sealedCard = sealCard(this.options.card, guest.keys.hostCardKey, guest.session)
    this.#done = { kind: 'done', session: guest.session, sealedCard }
    this.say(guest.replyKey, this.#done)
    this.become({ kind: 'paired', card, words: guest.keys.words })
  }
}

/** The device on which the code was typed. */
export class PairingGuest extends PairingSide {
  readonly keys: readonly XWingKeyPair[]
  readonly #key: XWingKeyPair
  readonly #session: Uint8Array
  readonly #share: CpaceShare
  #pairKeys: PairKeys | undefined
  #last: Draft
  #repeatMs: number

  constructor(options: PairingOptions, now: number) {
    super(options, now)
    this.#key = options.newKey()
    this.keys = [this.#key]
    this.#session = copyBytes(options.random(16))
    this.#share = shareFor(options, this.#session)
    const { share } = this.#share
    const hello = encodePair({ kind: 'hello', session: this.#session, share, replyKey: this.#key.publicKey })
    this.#last = { to: placeKey(options.code.place).publicKey, content: hello }
    this.drafts.push(this.#last)
    this.#repeatMs = now + REPEAT_MS
  }

  handle(message: PairMessage, now: number): void {
    this.handleDeadline(now)
    if (this.isOver || !isEqual(message.session, this.#session)) return
    if (message.kind === 'answer' && this.state.kind === 'waiting') this.#confirm(message, now)
    if (message.kind === 'done' && this.#pairKeys !== undefined) {
      const card = openCard(message.sealedCard, this.#pairKeys.hostCardKey, this.#session)
      // Anybody could have sent a card that does not open; the true one may still come.
      if (card !== undefined) this.become({ kind: 'paired', card, words: this.#pairKeys.words })
    }
    if (message.kind === 'refused') this.fail(message.reason)
  }

  deadline(): number {
    return this.isOver ? Number.POSITIVE_INFINITY : Math.min(this.#repeatMs, this.expiresMs)
  }

  handleDeadline(now: number): void {
    if (now < this.deadline()) return
    if (now >= this.expiresMs) return this.fail(this.state.kind === 'waiting' ? 'nobodyAnswered' : 'expired')
    this.#repeatMs = now + REPEAT_MS
    this.drafts.push(this.#last)
  }

  #confirm(answer: PairMessage & { kind: 'answer' }, now: number): void {
    const hostKey = copyBytes(answer.replyKey)
    const keys = pairKeys(this.#share, answer.share, this.#session, {
      initiatorShare: this.#share.share,
      initiatorData: this.#key.publicKey,
      responderShare: answer.share,
      responderData: hostKey,
    })
    if (keys === undefined || !isEqual(answer.tag, keys.hostTag)) {
      this.say(hostKey, { kind: 'refused', session: this.#session, reason: 'wrongCode' })
      return this.fail('wrongCode')
    }
    this.#pairKeys = keys
    const sealedCard = sealCard(this.options.card, keys.guestCardKey, this.#session)
    const confirm = encodePair({ kind: 'confirm', session: this.#session, tag: keys.guestTag, sealedCard })
    this.#last = { to: hostKey, content: confirm }
    this.drafts.push(this.#last)
    this.#repeatMs = now + REPEAT_MS
    this.become({ kind: 'answered' })
  }
}

interface PairKeys {
  readonly hostTag: Uint8Array
  readonly guestTag: Uint8Array
  readonly hostCardKey: Uint8Array
  readonly guestCardKey: Uint8Array
  readonly words: readonly string[]
}

function shareFor({ code, random }: PairingOptions, sessionId: Uint8Array): CpaceShare {
  const channel = Buffer.concat([CHANNEL, code.place])
  return makeCpaceShare({ secret: code.secret, channel, sessionId }, random)
}

function pairKeys(
  own: CpaceShare,
  theirs: Uint8Array,
  session: Uint8Array,
  transcript: Parameters<typeof cpaceKey>[3],
): PairKeys | undefined {
  const key = cpaceKey(own.scalar, theirs, session, transcript)
  if (key === undefined) return undefined
  const derive = (label: string) => hkdf(NO_SALT, key, `hoplite pair ${label}`, 32)
  const tag = (label: string) => createHmac('sha256', derive(label)).update(session).digest()
  const keys = {
    hostTag: tag('host tag'),
    guestTag: tag('guest tag'),
    hostCardKey: derive('host card'),
    guestCardKey: derive('guest card'),
    words: toWords(derive('words'), 4),
  }
  key.fill(0)
  return keys
}

/** Each key seals one card, so the nonce may stay the same. */
function sealCard(card: DeviceCard, key: Uint8Array, session: Uint8Array): Uint8Array {
  return chachaSeal(key, new Uint8Array(12), encodeCard(card), session)
}

function openCard(sealed: Uint8Array, key: Uint8Array, session: Uint8Array): DeviceCard | undefined {
  const bytes = chachaOpen(key, new Uint8Array(12), sealed, session)
  return bytes && decodeCard(bytes)
}

function isEqual(a: Uint8Array, b: Uint8Array): boolean {
  return a.length === b.length && timingSafeEqual(a, b)
}
