// Where the origin is, and what its server and the client's probes agree on.

export const ORIGIN_ADDRESS = '41.1.0.1'
export const ORIGIN_PORT = 7_000

/** The first byte of a TCP connection to the origin. */
export const VERBS = { source: 's', sink: 'k', echo: 'e' } as const
