// What a person at the dashboard does with an entry: looks at a WireGuard file, starts the entry as a part of the daemon
// (part.ts), moves it to another stranger, and ends it.

import path from 'node:path'
import { HopliteError } from '#api/errors.ts'
import type { Handlers, Input, Output } from '#api/table.ts'
import { type Address, formatAddress, parseAddress, parseIp } from '#wire/address.ts'
import { formatPrefix } from '#wire/ip-prefix.ts'
import type { Config } from '../config.ts'
import { assertEntryPossible, isEntryLeft, undoEntry } from '../entry/entry-changes.ts'
import { fileForEntry, type PeerCount, planFromText, readEntryText } from '../entry/entry-plan.ts'
import { drawFrom, existing, giveTo, type OwnWallet } from './credits-between.ts'
import type { Part } from './part.ts'
import { configForPart } from './part-config.ts'
import type { EntryWish } from './part-order.ts'
import type { PartsFile } from './parts-file.ts'

const USUAL_LISTEN = '127.0.0.1:51820'

export interface EntryDeskOptions {
  readonly part: Part
  readonly kept: PartsFile
  readonly stateDir: string
  readonly config: Config
  readonly configFile: string | undefined
  readonly wallet: () => OwnWallet | undefined
  /** The daemon's own proxy. */
  readonly proxy: () => Address | undefined
  /** Throws PART_RUNNING where an entry of this form cannot run beside what else does. */
  readonly assertFree: (form: EntryWish['form']) => void
}

export class EntryDesk {
  readonly #options: EntryDeskOptions

  constructor(options: EntryDeskOptions) {
    this.#options = options
  }

  get handlers() {
    return {
      'entry.check': ({ file }) => checkFile(file),
      'entry.start': input => this.#start(input),
      'entry.stop': input => this.#stop(input),
      'entry.newPeer': () => this.#options.part.call('entry.newPeer', {}),
      'entry.status': () => this.#status(),
      'entry.file': ({ file }) => this.#file(file),
      'entry.fund': ({ credits }) => this.#fund(credits),
      'entry.refund': () => this.#refund(),
    } satisfies Handlers
  }

  /** Starts what is kept and was on. Throws as `start` of a part does. */
  async resume(): Promise<void> {
    const { kept } = this.#options
    const wish = kept.isEntryOn ? kept.entry : undefined
    if (wish !== undefined) await this.#begin(wish)
  }

  async #start(input: Input<'entry.start'>): Promise<Output<'entry.status'>> {
    const { kept } = this.#options
    const wish = wishOf(input, kept.entry)
    // What is wrong with it is said before anything is begun.
    planFromText(wish)
    if (wish.form === 'tunnel') assertEntryPossible()
    await this.#begin(wish)
    if (input.keep === true || input.file === undefined) kept.keepEntry(wish)
    else kept.switchEntryOff()
    return this.#status()
  }

  async #begin(wish: EntryWish): Promise<void> {
    const { part, assertFree, config, configFile, stateDir } = this.#options
    assertFree(wish.form)
    const common = { config: configForPart(config), stateDir, ...(configFile !== undefined && { configFile }) }
    const proxy = this.#options.proxy()
    await part.start({ kind: 'entry', ...common, wish, memory: {}, ...(proxy && { proxy }) })
  }

  async #stop({ forget = false }: Input<'entry.stop'>): Promise<Output<'entry.status'>> {
    const { kept } = this.#options
    await this.close()
    kept.switchEntryOff()
    if (forget) kept.forgetEntry()
    return this.#status()
  }

  /** Ends it, and puts back what one that died has left. Throws what could not be put back. */
  async close(): Promise<void> {
    const { part, stateDir } = this.#options
    await part.stop()
    await undoEntry(stateDir)
  }

  async #status(): Promise<Output<'entry.status'>> {
    const { part, kept, stateDir } = this.#options
    const [status, shown] = await Promise.all([part.ask('status', {}), part.ask('wgShow', {})])
    const { state, order, problem } = part
    const form = order?.kind === 'entry' ? order.wish.form : undefined
    return {
      state,
      ...(form !== undefined && { form }),
      isKept: kept.form !== undefined,
      ...(kept.form && { keptForm: kept.form }),
      isShut: (state === 'off' || state === 'failed' || state === 'waiting') && (await isEntryLeft(stateDir)),
      ...(status && { status }),
      interfaces: shown?.interfaces ?? [],
      ...(problem && { problem: problem.message, advice: problem.advice }),
    }
  }

  async #fund(credits: number): Promise<Output<'entry.fund'>> {
    const { part, wallet, stateDir } = this.#options
    const own = existing(wallet())
    const entry = await giveTo(part, own, path.join(stateDir, 'given'), credits)
    return { entry, tokens: own.balance().tokens }
  }

  async #refund(): Promise<Output<'entry.refund'>> {
    const { part, wallet, stateDir } = this.#options
    const own = existing(wallet())
    const { tokens } = await part.call('wallet', {})
    const refunded = await drawFrom(part, own, path.join(stateDir, 'returned'), tokens)
    return { refunded, tokens: own.balance().tokens }
  }

  async #file(file: string): Promise<Output<'entry.file'>> {
    const status = await this.#options.part.ask('status', {})
    const listen = parseAddress(status?.listening['wireguard']?.[0] ?? '')
    if (status?.mtu !== undefined && listen !== undefined) return { file: fileForEntry(file, listen, status.mtu) }
    const advice = 'start your VPN in the form that listens first'
    throw new HopliteError('REQUEST_INVALID', 'change a WireGuard file: no entry listens', advice)
  }
}

/** What a file says, for who wants to see it before anything is done with it. Throws ENTRY_FILE_INVALID. */
function checkFile(text: string): Output<'entry.check'> {
  const { interface: device, peers, hooks, notes } = readEntryText(Buffer.from(text))
  const reached = peers.filter(({ endpoint }) => endpoint !== undefined)
  return {
    servers: reached.flatMap(({ endpoint, allowedIps, presharedKey }) =>
      endpoint === undefined
        ? []
        : {
            endpoint: formatAddress(endpoint),
            allowedIps: allowedIps.map(formatPrefix),
            hasPresharedKey: presharedKey !== undefined,
          },
    ),
    addresses: device.addresses.map(formatPrefix),
    dns: [...device.dnsServers, ...device.dnsSearch],
    ...(device.mtu !== undefined && { mtu: device.mtu }),
    isWholeMachine: peers.some(({ allowedIps }) => allowedIps.some(({ prefix }) => prefix === 0)),
    asksName: reached.some(({ endpoint }) => endpoint !== undefined && parseIp(endpoint.host) === undefined),
    hooks: hooks.map(({ when, command }) => ({ when, command })),
    notes: notes.map(({ line, text }) => ({ line, text })),
    tunnel: whetherTunnel(),
  }
}

function whetherTunnel(): Output<'entry.check'>['tunnel'] {
  try {
    assertEntryPossible()
    return { isPossible: true }
  } catch (error) {
    if (!(error instanceof HopliteError)) throw error
    return { isPossible: false, why: error.message, advice: error.advice }
  }
}

/** What is asked for, with what is kept where the caller says nothing. Throws REQUEST_INVALID. */
function wishOf(input: Input<'entry.start'>, kept: EntryWish | undefined): EntryWish {
  if (input.file === undefined && kept?.form === input.form) return kept
  const file = input.file ?? kept?.file
  if (file === undefined) {
    const advice = 'give the WireGuard file of your VPN'
    throw new HopliteError('REQUEST_INVALID', 'start your VPN: no file is kept', advice)
  }
  const peers = (input.peers ?? 1) as PeerCount
  if (input.form === 'tunnel') return { form: 'tunnel', file, peers, killSwitch: input.killSwitch ?? true }
  const listen = input.listen ?? USUAL_LISTEN
  if (parseAddress(listen.replace(/:0$/, ':1')) !== undefined) return { form: 'listen', file, peers, listen }
  throw new HopliteError(
    'REQUEST_INVALID',
    'read the address to listen on: it is none',
    `write it like ${USUAL_LISTEN}`,
  )
}
