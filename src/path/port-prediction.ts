// Which external port a peer's NAT gave to its check to us, when the mapping depends on the endpoint (RFC 4787 §4.1, RFC 5128
// §3.4). First the ports that follow the last one seen, in the step that was observed; then every port once, spread evenly:
// with 256 open ports on the other side (the birthday method) one of about 250 guesses hits.

import type { NatBehaviour } from '#wire/path-offer.ts'

const PREDICTED = 32
const LOWEST_PORT = 1_024
const PORTS = 65_536 - LOWEST_PORT
/** Shares no factor with 64,512 = 2^10 · 3^2 · 7, so multiples of it visit every port; near the golden section of it. */
const STRIDE = 39_869

/** Ports in the order to try them, none twice; `start` (any integer) is where the spread begins. */
export function* guessPorts(nat: NatBehaviour, start: number): Generator<number, void, undefined> {
  const tried = new Set<number>()
  const step = nat.step === 0 ? 1 : nat.step
  if (nat.lastPort > 0) {
    for (let i = 1; i <= PREDICTED; i++) {
      const port = nat.lastPort + i * step
      if (port < LOWEST_PORT || port > 65_535) break
      tried.add(port)
      yield port
    }
  }
  for (let i = 0; i < PORTS; i++) {
    const port = LOWEST_PORT + (((start % PORTS) + i * STRIDE) % PORTS)
    if (!tried.has(port)) yield port
  }
}
