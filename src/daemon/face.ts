// The face of a node: its actions on the control socket and, once somebody asked for it, on a local port for the browser;
// settings, tokens and the log, which are the same for every role; metrics where they are wanted.

import path from 'node:path'
import { Access, type AccessState } from '#api/access.ts'
import { type BrowserServer, serveBrowser } from '#api/browser-server.ts'
import { HopliteError } from '#api/errors.ts'
import { EventHub } from '#api/event-hub.ts'
import { type ApiServer, serveApi } from '#api/server.ts'
import type { Handlers, Status } from '#api/table.ts'
import { systemRandom } from '#crypto/random.ts'
import { monotonicMs } from '#platform/clock.ts'
import { ProcessLimits } from '#platform/process-limits.ts'
import { socketPath, usualConfigFile } from '#platform/state/directories.ts'
import { readStateFile, setAside, writeStateFile } from '#platform/state/state-file.ts'
import { type BundleFile, loadBundle } from '#web/bundle.ts'
import type { Config } from './config.ts'
import { type Limit, LimitWatch } from './limit-watch.ts'
import { parseListen } from './listen.ts'
import { own } from './log.ts'
import type { RunOptions } from './node.ts'
import { type LiveKeys, Settings } from './settings.ts'

const MAX_STATE_BYTES = 256 * 1024
/** How often limits are looked at while nobody asks. */
const LOOK_MS = 5_000
/** A hundred dashboards ask at once: one look serves them all. */
const FRESH_MS = 500

/** The handlers of a role: every node has these two. */
type RoleHandlers = Handlers & Required<Pick<Handlers, 'status' | 'down'>>

/** Serves a node's actions and events until it is closed. Throws what keeps it from starting. */
export async function openFace(
  config: Config,
  options: RunOptions,
  role: RoleHandlers,
  events: EventHub = new EventHub(),
  live: LiveKeys = {},
): Promise<ApiServer> {
  const face = new Face(config, options, role, events, live)
  await face.open()
  return face
}

class Face implements ApiServer {
  readonly #config: Config
  readonly #options: RunOptions
  readonly #access: Access
  readonly #events: EventHub
  readonly #handlers: RoleHandlers
  readonly #servers: ApiServer[] = []
  readonly #process: ProcessLimits
  readonly #watch = new LimitWatch()
  #limits: readonly Limit[] = []
  #lookedMs = Number.NEGATIVE_INFINITY
  #looking: NodeJS.Timeout | undefined
  #browser: Promise<BrowserServer> | undefined
  #bundle: Promise<ReadonlyMap<string, BundleFile>> | undefined

  constructor(config: Config, options: RunOptions, role: RoleHandlers, events: EventHub, live: LiveKeys) {
    this.#config = config
    this.#options = options
    this.#events = events
    this.#process = new ProcessLimits(options.stateDir)
    const { lines } = options.log
    if (lines !== undefined) lines.onLine = line => events.tell('log', line)
    this.#access = new Access({ random: systemRandom, now: Date.now, save: text => this.#save(text) }, this.#load())
    const settings = new Settings(config, options.configFile ?? usualConfigFile(), {
      'log.level': ({ log }) => options.log.setLevel?.(log.level),
      ...live,
    })
    this.#handlers = {
      ...role,
      status: async () => this.#withLimits(await role.status({})),
      activity: ({ after = 0 }) => ({ lines: lines?.after(after) ?? [] }),
      settings: () => settings.describe(),
      'settings.check': ({ values }) => ({ problems: settings.check(values) }),
      'settings.save': ({ values }) => settings.save(values),
      reload: () => settings.reload(),
      login: async () => ({ url: `${(await this.#browse()).origin}/#login=${this.#access.newCode()}` }),
      'token.create': async ({ name, permission }) => {
        const { origin } = await this.#browse()
        const made = this.#access.createToken(name, permission)
        if (made !== undefined) return { ...made, url: `${origin}/v1/` }
        throw new HopliteError('LIMIT_REACHED', 'make a token: there are 64 already', 'revoke one: token.revoke')
      },
      'token.list': () => ({ tokens: this.#access.tokens() }),
      'token.revoke': ({ id }) => ({ revoked: this.#access.revoke(id) }),
    }
  }

  async open(): Promise<void> {
    const { listen } = this.#config.metrics
    if (listen !== '') {
      // Only who wants metrics pays for their library.
      const { serveMetrics } = await import('./metrics.ts')
      this.#servers.push(await serveMetrics(listen, () => this.#handlers.status({})))
    }
    this.#servers.push(await serveApi(this.#handlers, socketPath(this.#options.stateDir), this.#events))
    this.#looking = setInterval(() => void this.#look(), LOOK_MS).unref()
    this.#options.onUp?.()
    const isFixed = !this.#config.api.listen.endsWith(':0')
    if (!isFixed && !this.#access.isInUse) return
    await this.#browse().catch(() => this.#options.log.warn('dashboard not served: its port is taken'))
  }

  async close(): Promise<void> {
    clearInterval(this.#looking)
    const browser = await this.#browser?.catch(() => undefined)
    await Promise.allSettled([...this.#servers, ...(browser === undefined ? [] : [browser])].map(one => one.close()))
  }

  /** A status with the limits that are reached; the first of them is the problem where there is no other. */
  #withLimits(status: Status): Status {
    const now = monotonicMs()
    if (now - this.#lookedMs >= FRESH_MS) {
      this.#lookedMs = now
      this.#note(this.#watch.look({ ...this.#process.read(), counters: status.counters }, now))
    }
    const [first] = this.#limits
    if (first === undefined) return status
    const { problem, advice } = first
    return { ...status, limits: [...this.#limits], ...(status.problem === undefined && { problem, advice }) }
  }

  async #look(): Promise<void> {
    try {
      await this.#handlers.status({})
    } catch {
      // Whoever asks for the status is told why there is none.
    }
  }

  /** Says in the log what is reached, and what no more. */
  #note(limits: readonly Limit[]): void {
    const names = (list: readonly Limit[]) => new Set(list.map(({ name }) => name))
    const [before, after] = [names(this.#limits), names(limits)]
    this.#limits = limits
    const { log } = this.#options
    for (const { name, problem, advice } of limits)
      if (!before.has(name))
        log.warn('limit reached', { reason: own(name), problem: own(problem), advice: own(advice) })
    for (const name of before) if (!after.has(name)) log.info('limit no longer reached', { reason: own(name) })
  }

  /** The server for browsers, started the first time. */
  #browse(): Promise<BrowserServer> {
    this.#browser ??= this.#listen().catch((error: unknown) => {
      this.#browser = undefined
      throw error
    })
    return this.#browser
  }

  async #listen(): Promise<BrowserServer> {
    const { host, port } = parseListen(this.#config.api.listen)
    const serve = (port: number) =>
      serveBrowser({
        node: { handlers: this.#handlers, events: this.#events },
        access: this.#access,
        host,
        port,
        assets: () => this.#assets(),
      })
    try {
      const browser = await serve(port === 0 ? this.#access.port : port).catch((error: unknown) => {
        // The port of last time may be another program's now; one that was configured is not given up.
        if (port !== 0 || this.#access.port === 0) throw error
        return serve(0)
      })
      this.#access.setPort(browser.port)
      return browser
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException
      const advice = 'choose another in [api], or stop the program that uses it'
      throw new HopliteError(
        'ADDRESS_IN_USE',
        `serve the dashboard on ${this.#config.api.listen}: ${code}`,
        advice,
        error,
      )
    }
  }

  #assets(): Promise<ReadonlyMap<string, BundleFile>> {
    this.#bundle ??= loadBundle().catch((error: unknown) => {
      this.#bundle = undefined
      const advice = 'install the development packages: npm ci'
      throw new HopliteError('DAEMON_FAILED', 'build the dashboard: it cannot be built here', advice, error)
    })
    return this.#bundle
  }

  #load(): AccessState | undefined {
    const bytes = readStateFile(this.#file, MAX_STATE_BYTES)
    if (bytes === undefined) return undefined
    const state = Access.decode(Buffer.from(bytes).toString('utf8'))
    if (state !== undefined) return state
    setAside(this.#file)
    this.#options.log.warn('damaged state file set aside')
    return undefined
  }

  #save(text: string): void {
    try {
      writeStateFile(this.#file, text)
    } catch {
      this.#options.log.error('state file not written')
    }
  }

  get #file(): string {
    return path.join(this.#options.stateDir, 'access.json')
  }
}
