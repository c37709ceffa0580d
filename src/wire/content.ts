// What is in a letter: the first byte says which of the messages it is. 0 and no byte at all is a cover letter.
//
//   1  match request    2  match answer                                   match.ts
//   3  pair hello  4  pair answer  5  pair confirm  6  pair done  7  pair refused   pairing.ts
//   8  device begin     9  device message                                 device-message.ts

export const CONTENT_KIND = {
  matchRequest: 1,
  matchAnswer: 2,
  pairHello: 3,
  pairAnswer: 4,
  pairConfirm: 5,
  pairDone: 6,
  pairRefused: 7,
  deviceBegin: 8,
  deviceMessage: 9,
} as const

/** An X-Wing public key. */
export const SEALING_KEY_BYTES = 1216
