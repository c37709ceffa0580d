// One pairing at a time: makes codes and takes them, runs the machine of `meet`, and says in words how it went.

import { HopliteError } from '#api/errors.ts'
import type { Output } from '#api/table.ts'
import type { Random } from '#crypto/random.ts'
import type { XWingKeyPair } from '#crypto/xwing.ts'
import { makeLongCode, makeShortCode, readCode } from '#meet/code.ts'
import type { PairProblem } from '#meet/devices.ts'
import type { Draft } from '#meet/letter.ts'
import { type PairFailure, PairingGuest, PairingHost } from '#meet/pairing.ts'
import type { DeviceCard } from '#wire/device-card.ts'
import { decodePair } from '#wire/pairing.ts'

export interface PairingDeskOptions {
  readonly random: Random
  /** This device's card of now. */
  readonly card: () => DeviceCard
  /** A fresh key whose letters come to the bucket that is listened in anyway. */
  readonly newKey: () => XWingKeyPair
  /** Whether letters for a key come to that bucket. */
  readonly suits: (key: XWingKeyPair) => boolean
  readonly hold: (key: XWingKeyPair) => void
  readonly drop: (key: XWingKeyPair) => void
  /** Takes in the device that was paired with. */
  readonly admit: (card: DeviceCard, now: number) => { readonly name: string } | { readonly problem: PairProblem }
}

type Side = PairingHost | PairingGuest
type Admitted = ReturnType<PairingDeskOptions['admit']>

export class PairingDesk {
  readonly #options: PairingDeskOptions
  #side: Side | undefined
  #admitted: Admitted | undefined
  #isHeld = false

  constructor(options: PairingDeskOptions) {
    this.#options = options
  }

  /** Makes a code and waits for who has it. Throws PAIRING_BUSY. */
  host(kind: 'short' | 'long', now: number): { readonly code: string; readonly expiresMs: number } {
    this.#assertFree(now)
    const { random, suits, card, newKey } = this.#options
    const code = (kind === 'short' ? makeShortCode : makeLongCode)(random, suits)
    const side = this.#begin(new PairingHost({ code, card: card(), random, newKey }, now))
    return { code: code.text, expiresMs: side.expiresMs }
  }

  /** Looks for the device that shows a code. Throws PAIRING_BUSY and CODE_INVALID. */
  join(typed: string, now: number): { readonly expiresMs: number } {
    this.#assertFree(now)
    const { random, card, newKey } = this.#options
    const code = readCode(typed)
    if ('problem' in code)
      throw new HopliteError('CODE_INVALID', `read the code: ${code.problem}`, 'type its four words, or copy it whole')
    const side = this.#begin(new PairingGuest({ code, card: card(), random, newKey }, now))
    return { expiresMs: side.expiresMs }
  }

  handle(content: Uint8Array, now: number): void {
    const message = decodePair(content)
    if (message !== undefined) this.#side?.handle(message, now)
    this.#settle(now)
  }

  status(): Output<'pair.status'> {
    const side = this.#side
    if (side === undefined) return { state: 'none' }
    const { state } = side
    if (state.kind === 'failed') return { state: 'failed', ...FAILURES[state.reason] }
    if (state.kind !== 'paired') return { state: state.kind }
    const admitted = this.#admitted
    if (admitted === undefined || 'problem' in admitted)
      return { state: 'failed', ...PROBLEMS[admitted?.problem ?? 'itself'] }
    return { state: 'paired', words: [...state.words], device: { id: state.card.id, name: admitted.name } }
  }

  /** Ends what is under way; false when nothing was. */
  end(): boolean {
    const side = this.#side
    if (side === undefined || side.isOver) return false
    if (side instanceof PairingHost) side.withdraw()
    else this.#forget()
    return true
  }

  /** The drafts that are to be posted now. */
  take(): Draft[] {
    return this.#side?.take() ?? []
  }

  deadline(): number {
    const side = this.#side
    if (side === undefined) return Number.POSITIVE_INFINITY
    return this.#isHeld ? Math.min(side.deadline(), side.expiresMs) : side.deadline()
  }

  handleDeadline(now: number): void {
    this.#side?.handleDeadline(now)
    this.#settle(now)
  }

  #assertFree(now: number): void {
    this.handleDeadline(now)
    if (this.#side === undefined || this.#side.isOver) return
    const advice = 'finish it, or end it with: hoplite pair --end'
    throw new HopliteError('PAIRING_BUSY', 'pair: another pairing is under way', advice)
  }

  #begin(side: Side): Side {
    this.#forget()
    this.#side = side
    for (const key of side.keys) this.#options.hold(key)
    this.#isHeld = true
    return side
  }

  /** While its code lives, a host answers even when it is over: its last letter may have been lost, and others are refused. */
  #settle(now: number): void {
    const side = this.#side
    if (side?.state.kind === 'paired') this.#admitted ??= this.#options.admit(side.state.card, now)
    if (side !== undefined && now >= side.expiresMs) this.#dropKeys()
  }

  #forget(): void {
    this.#dropKeys()
    this.#side = undefined
    this.#admitted = undefined
  }

  #dropKeys(): void {
    for (const key of this.#side?.keys ?? []) this.#options.drop(key)
    this.#isHeld = false
  }
}

interface InWords {
  readonly problem: string
  readonly advice: string
}

const ANEW = 'make a new code with: hoplite pair'
const FAILURES: Readonly<Record<PairFailure, InWords>> = {
  wrongCode: { problem: 'the code was wrong; it is good for one guess, and that is gone', advice: ANEW },
  used: { problem: 'the code was used before, by somebody else perhaps', advice: ANEW },
  withdrawn: { problem: 'the code was taken back', advice: ANEW },
  badCard: { problem: 'the other device sent what this program does not understand', advice: 'use the same version' },
  expired: { problem: 'the other device went away in the middle', advice: ANEW },
  nobodyAnswered: {
    problem: 'nobody answered in ten minutes',
    advice: 'both devices need a way for letters in common: hoplite doctor',
  },
}
const PROBLEMS: Readonly<Record<PairProblem, InWords>> = {
  itself: { problem: 'the code is of this very device', advice: 'type it on the other one' },
  idTaken: {
    problem: 'a paired device has the same id and other keys',
    advice: 'remove that one first: hoplite devices remove',
  },
  full: { problem: 'there are 64 devices already', advice: 'remove one: hoplite devices remove' },
  unusableKeys: {
    problem: 'the other device has unusable keys',
    advice: 'make new ones there: hoplite devices rotate',
  },
}
