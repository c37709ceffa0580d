// What came of a client's handshakes with its hops, counted from the commands that carry them out.

import type { Command } from '#forward/commands.ts'

export class HandshakeCount {
  #sent = 0
  #answered = 0
  #renewed = 0
  #unanswered = 0

  handleCommands(commands: readonly Command[]): void {
    for (const { kind } of commands) {
      if (kind === 'sendHandshake') this.#sent++
      else if (kind === 'installSession') this.#answered++
      else if (kind === 'installKeys') this.#renewed++
    }
  }

  /** A hop did not answer in its time. */
  handleFailure(): void {
    this.#unanswered++
  }

  /** As counters of a status. */
  get counters(): Readonly<Record<string, number>> {
    return {
      handshakesSent: this.#sent,
      handshakesAnswered: this.#answered,
      handshakesRenewed: this.#renewed,
      handshakesUnanswered: this.#unanswered,
    }
  }
}
