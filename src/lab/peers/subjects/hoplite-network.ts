// A Hoplite network in the laboratory: a bootstrap node and six relays, of which the last two let traffic out. The subjects put
// their client before it.

import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { callAction } from '#api/client.ts'
import type { Status } from '#api/table.ts'
import { VERSION } from '#daemon/version.ts'
import { siblingModule } from '#platform/module-url.ts'
import { socketPath } from '#platform/state/directories.ts'
import { waitFor } from '../../testnet.ts'
import type { LabProcess } from '../lab-process.ts'
import { BOOT_ADDRESS, HOP_COUNT, hopAddress, type PeerLab } from '../topology.ts'

const EXITS = [5, 6]
const READY_MS = 45_000

export const HOPLITE = fileURLToPath(siblingModule(import.meta.url, '../../../cli/main'))
export const hopliteVersion = async () => `Hoplite ${VERSION}`

export class HopliteNetwork {
  readonly #lab: PeerLab
  readonly #nodes: LabProcess[] = []
  #bootstrap = ''

  constructor(lab: PeerLab) {
    this.#lab = lab
  }

  /** Starts all nodes; the exits have `exitFlags` too. */
  async start(...exitFlags: string[]): Promise<void> {
    const boot = ['[relay]', `control_listen = "${BOOT_ADDRESS}:51820"`]
    this.#nodes.push(this.run('boot', ['bootstrap'], boot))
    const told = await waitFor(async () => (await this.status('boot'))?.listening['control']?.[0], 'the bootstrap node')
    this.#bootstrap = told
    for (let number = 1; number <= HOP_COUNT; number++) {
      const flags = EXITS.includes(number) ? ['--exit', ...exitFlags] : []
      const address = hopAddress(number)
      const addresses = [`listen = "${address}:51821"`, `control_listen = "${address}:51820"`]
      const own = ['[relay]', ...addresses, `operator = "hop${number}"`, 'capacity_kbit = 1_000_000']
      this.#nodes.push(this.run(`hop${number}`, ['relay', ...flags], own))
    }
  }

  /** Starts a `hoplite` command on the host `name`, with a configuration and a state directory of its own. */
  run(name: string, command: readonly string[], lines: readonly string[]): LabProcess {
    const words = [...process.execArgv, HOPLITE, ...command, ...this.flags(name, lines)]
    return this.#lab.start(this.#lab.host(name), name, process.execPath, words)
  }

  /** The flags that name the state directory and the configuration of a node, which is written. */
  flags(name: string, lines: readonly string[]): string[] {
    const folder = this.#folder(name)
    const file = path.join(folder, 'hoplite.toml')
    const network = this.#bootstrap === '' ? [] : ['[network]', `bootstrap = ["${this.#bootstrap}"]`]
    writeFileSync(file, [...network, ...lines, ''].join('\n'))
    return ['--config', file, '--state-dir', path.join(folder, 'state')]
  }

  get running(): LabProcess[] {
    return this.#nodes.filter(({ isRunning }) => isRunning)
  }

  async status(name: string): Promise<Status | undefined> {
    return callAction(socketPath(path.join(this.#folder(name), 'state')), 'status', {}).catch(() => undefined)
  }

  /** Waits until the client has a route and, where there are hops to spare, a spare way. */
  async ready(hops: number): Promise<void> {
    const hasRoute = async () => {
      const status = await this.status('client')
      if (status?.state !== 'ready') return undefined
      return hops > 1 && status.routes[0]?.spare === undefined ? undefined : true
    }
    await waitFor(hasRoute, 'the client to have a route', READY_MS)
  }

  /** Kills the hop before the exit that the client's first route takes now: the first of two, the middle one of three. */
  async killHop(hops: number): Promise<void> {
    const address = (await this.status('client'))?.routes[0]?.hops[hops - 2]?.address ?? ''
    const number = Array.from({ length: HOP_COUNT }, (_, i) => i + 1).find(n => address.startsWith(`${hopAddress(n)}:`))
    const hop = this.#nodes.find(({ name }) => name === `hop${number}`)
    if (hop === undefined) throw new Error(`kill a hop: the client has none at ${address}`)
    await hop.kill()
  }

  #folder(name: string): string {
    return this.#lab.folder(`hoplite-${name}`)
  }
}
