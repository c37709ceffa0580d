// Pay as you go: how much was carried, how much is paid, and what that means for either side. Pure counting; both machines
// hold the same tariff.
//
//   one token pays for one quantum of bytes, outward and inward together, after the free allowance
//
//   payer   pays its next token when what it paid for is used up, or a little later, which differs from relay to relay, so
//           that hops of one route are not paid at one moment; and only while its own probes come back through the relay:
//           at any time it has paid for at most one quantum that was not carried
//   payee   carries one quantum that is not paid yet, for those who have paid before, and then stops: at any time it has
//           carried at most one quantum that is not paid
//
// Outward bytes are the payer's own: the session authenticates them. Inward ones count once the payer accepts them: with
// every token it says how many bytes it has accepted in all. What the payee sent inward before the last such report and is
// still not accepted was lost, or was nobody's request; it is written off, up to a sixteenth of what was paid for, so that
// strangers cannot run up a bill and a payer cannot simply deny what it got.

export interface Tariff {
  /** Bytes that a token pays for. */
  readonly quantumBytes: number
  /** Bytes of a session that cost nothing. */
  readonly freeBytes: number
}

const GIB = 2 ** 30
const LOSS_SHARE = 16
/**
 * A payer's first token goes out this part of a quantum before the free bytes end, so that nothing has to wait for it; but not
 * before half of them are used, so that a few questions cost nothing.
 */
const LEAD_SHARE = 8

/** The tariff of a price in credits for a gibibyte (above 0). */
export function tariffOf(creditsPerGib: number, freeBytes: number): Tariff {
  return { quantumBytes: Math.max(1, Math.floor(GIB / creditsPerGib)), freeBytes }
}

export type PayerState = 'enough' | 'pay' | 'relayIsIdle'

/** The paying side of one session with one relay. */
export class Payer {
  readonly #tariff: Tariff
  readonly #delayBytes: number
  #sent = 0
  #accepted = 0
  #sentAtToken = 0
  #lost = 0
  #tokens = 0
  #isCarrying = true

  /** @param delayShare how much later than due it pays, as a part of a quantum, 0 to 0.25 */
  constructor(tariff: Tariff, delayShare = 0) {
    this.#tariff = tariff
    this.#delayBytes = Math.floor(delayShare * tariff.quantumBytes)
  }

  get tokens(): number {
    return this.#tokens
  }

  /** Bytes so far, all of the session: sent outward, and inward ones that opened and were wanted. */
  handleCounts(sent: number, accepted: number): void {
    this.#sent = Math.max(this.#sent, sent)
    this.#accepted = Math.max(this.#accepted, accepted)
  }

  /** The answer to a token: what the relay had carried outward. The rest never came there, and is not paid for. */
  handleReceipt(outwardBytes: number): void {
    this.#lost = Math.max(0, this.#sentAtToken - outwardBytes)
  }

  /** The relay did not take the newest token. */
  handleRefusal(): void {
    this.#tokens--
  }

  /** What the newest end-to-end probe through the relay said. */
  handleProbe(isAnswered: boolean): void {
    this.#isCarrying = isAnswered
  }

  /** What is to be done now. Before anything was sent, `pay` means that the first token goes with the handshake. */
  state(): PayerState {
    if (this.#sent + this.#accepted < this.dueBytes()) return 'enough'
    return this.#isCarrying ? 'pay' : 'relayIsIdle'
  }

  /** The count of bytes, sent and accepted together, at which the next token is due. */
  dueBytes(): number {
    const { quantumBytes, freeBytes } = this.#tariff
    const shift = this.#tokens === 0 ? -Math.min(freeBytes / 2, quantumBytes / LEAD_SHARE) : this.#delayBytes
    return freeBytes + this.#tokens * quantumBytes + this.#lost + shift
  }

  /** A token goes out, with this report of inward bytes accepted so far. */
  pay(): { readonly acceptedBytes: number } {
    this.#tokens++
    this.#sentAtToken = this.#sent
    return { acceptedBytes: this.#accepted }
  }

  /** Bytes that are paid for and were not used: what is lost when the relay goes now. Never above a quantum. */
  atStake(): number {
    const { quantumBytes, freeBytes } = this.#tariff
    const used = Math.max(0, this.#sent + this.#accepted - this.#lost - freeBytes)
    return Math.max(0, this.#tokens * quantumBytes - used)
  }
}

/** The carrying side of one session. */
export class Payee {
  readonly #tariff: Tariff
  #outward = 0
  #inward = 0
  #accepted = 0
  #inwardAtReport = 0
  #writtenOff = 0
  #tokens = 0

  constructor(tariff: Tariff) {
    this.#tariff = tariff
  }

  get tokens(): number {
    return this.#tokens
  }

  /** Bytes carried so far, all of the session. */
  handleCounts(outward: number, inward: number): void {
    this.#outward = Math.max(this.#outward, outward)
    this.#inward = Math.max(this.#inward, inward)
  }

  /** A token that was checked and never seen before, with the payer's report. A report above the truth is cut to it. */
  handleToken(acceptedBytes: number): void {
    this.#tokens++
    this.#accepted = Math.max(this.#accepted, Math.min(acceptedBytes, this.#inward))
    const missing = this.#inwardAtReport - this.#accepted - this.#writtenOff
    const most = (this.#tokens * this.#tariff.quantumBytes) / LOSS_SHARE
    this.#writtenOff += Math.max(0, Math.min(missing, most - this.#writtenOff))
    this.#inwardAtReport = this.#inward
  }

  /** How many bytes more are carried, both directions together, before the next token must be there; 0 is: stop. */
  allowance(): number {
    const { quantumBytes, freeBytes } = this.#tariff
    const credit = this.#tokens === 0 ? 0 : quantumBytes
    const carried = this.#outward + this.#inward - this.#writtenOff
    return Math.max(0, freeBytes + this.#tokens * quantumBytes + credit - carried)
  }

  /** Bytes that the payer owes for by both sides' counts: what it sent, and what it has accepted. */
  billable(): number {
    return Math.max(0, this.#outward + this.#accepted - this.#tariff.freeBytes)
  }
}
