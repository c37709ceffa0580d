// Who may use the API over a local port: one-time login codes, browser sessions and tokens. Only hashes are kept.
//
// A session has two secrets: a cookie, which scripts cannot read, and a key that the page keeps for itself. Cookies of
// 127.0.0.1 go to every port there, so a cookie alone could be caught by another program's page; the key does not travel
// by itself, so no other site can make the browser use it.

import { createHash } from 'node:crypto'
import { z } from 'zod'

const CODE_LIFETIME_MS = 5 * 60_000
const MAX_CODES = 8
const SESSION_LIFETIME_MS = 30 * 86_400_000
/** The oldest goes first. */
const MAX_SESSIONS = 128
const MAX_TOKENS = 64
const SECRET_BYTES = 32

/** What a later version added is passed over: who goes back to this one keeps sessions and tokens. */
const state = z.object({
  /** The port that a browser knows this node by: it is taken again at the next start. */
  port: z.number().int().min(0).max(65_535),
  sessions: z.array(z.object({ cookie: z.string(), page: z.string(), untilMs: z.number() })).max(MAX_SESSIONS),
  tokens: z
    .array(
      z.object({
        id: z.string(),
        name: z.string(),
        permission: z.enum(['read', 'write']),
        hash: z.string(),
        createdMs: z.number(),
      }),
    )
    .max(MAX_TOKENS),
})
export type AccessState = z.infer<typeof state>
type Token = AccessState['tokens'][number]

export interface AccessOptions {
  readonly random: (length: number) => Uint8Array
  /** Unix ms. */
  readonly now: () => number
  /** Called after every change that outlives the process. */
  readonly save: (text: string) => void
}

export class Access {
  readonly #options: AccessOptions
  readonly #codes = new Map<string, number>()
  #state: AccessState

  constructor(options: AccessOptions, saved: AccessState = { port: 0, sessions: [], tokens: [] }) {
    this.#options = options
    this.#state = saved
  }

  /** Reads what `save` was given; undefined when it is damaged. */
  static decode(text: string): AccessState | undefined {
    try {
      return state.safeParse(JSON.parse(text)).data
    } catch {
      return undefined
    }
  }

  get port(): number {
    return this.#state.port
  }

  /** Whether somebody may come back without asking the command line first. */
  get isInUse(): boolean {
    return this.#state.tokens.length > 0 || this.#state.sessions.some(({ untilMs }) => untilMs > this.#options.now())
  }

  setPort(port: number): void {
    if (port !== this.#state.port) this.#change({ ...this.#state, port })
  }

  /** A code that `login` takes once, within five minutes. */
  newCode(): string {
    const code = this.#secret()
    this.#codes.set(hashOf(code), this.#options.now() + CODE_LIFETIME_MS)
    dropFirst(this.#codes, MAX_CODES)
    return code
  }

  /** Makes a session; undefined when the code is none, or was used, or is too old. */
  login(code: string): { readonly cookie: string; readonly page: string } | undefined {
    const now = this.#options.now()
    const untilMs = this.#codes.get(hashOf(code))
    this.#codes.delete(hashOf(code))
    if (untilMs === undefined || untilMs <= now) return undefined
    const cookie = this.#secret()
    const page = this.#secret()
    const alive = this.#state.sessions.filter(session => session.untilMs > now).slice(1 - MAX_SESSIONS)
    const made = { cookie: hashOf(cookie), page: hashOf(page), untilMs: now + SESSION_LIFETIME_MS }
    this.#change({ ...this.#state, sessions: [...alive, made] })
    return { cookie, page }
  }

  /** Whether both secrets belong to one session that still holds. */
  isSession(cookie: string, page: string): boolean {
    const [cookieHash, pageHash] = [hashOf(cookie), hashOf(page)]
    const now = this.#options.now()
    return this.#state.sessions.some(
      session => session.untilMs > now && session.cookie === cookieHash && session.page === pageHash,
    )
  }

  /** Makes a token; undefined when there are 64 already. */
  createToken(
    name: string,
    permission: Token['permission'],
  ): { readonly id: string; readonly token: string } | undefined {
    if (this.#state.tokens.length >= MAX_TOKENS) return undefined
    const token = `hoplite_${permission}_${this.#secret()}`
    const id = Buffer.from(this.#options.random(6)).toString('hex')
    const made = { id, name, permission, hash: hashOf(token), createdMs: this.#options.now() }
    this.#change({ ...this.#state, tokens: [...this.#state.tokens, made] })
    return { id, token }
  }

  /** Every token without its secret. */
  tokens(): Omit<Token, 'hash'>[] {
    return this.#state.tokens.map(({ id, name, permission, createdMs }) => ({ id, name, permission, createdMs }))
  }

  revoke(id: string): boolean {
    const tokens = this.#state.tokens.filter(token => token.id !== id)
    const isKnown = tokens.length < this.#state.tokens.length
    if (isKnown) this.#change({ ...this.#state, tokens })
    return isKnown
  }

  /** What a token may; undefined when it is none. */
  permissionOf(token: string): Token['permission'] | undefined {
    const hash = hashOf(token)
    return this.#state.tokens.find(token => token.hash === hash)?.permission
  }

  #secret(): string {
    return Buffer.from(this.#options.random(SECRET_BYTES)).toString('base64url')
  }

  #change(state: AccessState): void {
    this.#state = state
    this.#options.save(JSON.stringify(state))
  }
}

function hashOf(secret: string): string {
  return createHash('sha256').update(secret).digest('base64url')
}

function dropFirst(map: Map<string, unknown>, most: number): void {
  for (const key of map.keys()) {
    if (map.size <= most) return
    map.delete(key)
  }
}
