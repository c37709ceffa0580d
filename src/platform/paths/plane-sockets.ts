// Sockets of a path machine that the mesh plane has: opened, closed and sent by with orders.

import type { Family } from '#path/base.ts'
import type { Address } from '#wire/address.ts'
import type { RunningMeshPlane } from './mesh-plane-thread.ts'
import type { PathSockets } from './path-sockets.ts'

interface Opening {
  readonly resolve: (port: number) => void
  readonly reject: (error: Error) => void
}

export class PlaneSockets implements PathSockets {
  readonly #plane: RunningMeshPlane
  readonly #descriptorOf: (family: Family, port: number) => Promise<number>
  readonly #opening = new Map<number, Opening>()

  /** @param descriptorOf a socket that is open and bound already, or a negative number where the plane is to open it */
  constructor(plane: RunningMeshPlane, descriptorOf: (family: Family, port: number) => Promise<number>) {
    this.#plane = plane
    this.#descriptorOf = descriptorOf
  }

  async open(local: number, family: Family, port: number): Promise<number> {
    const fd = await this.#descriptorOf(family, port)
    return new Promise((resolve, reject) => {
      this.#opening.set(local, { resolve, reject })
      this.#plane.order({ kind: 'open', local, family, port, fd })
    })
  }

  /** The plane says what became of it. */
  handleOpened(local: number, port: number | undefined): void {
    const opening = this.#opening.get(local)
    this.#opening.delete(local)
    if (port !== undefined) opening?.resolve(port)
    else opening?.reject(new Error('open a socket for paths: it cannot be had'))
  }

  send(local: number, to: Address, bytes: Uint8Array): void {
    this.#plane.order({ kind: 'send', local, to, bytes })
  }

  close(local: number): void {
    this.#plane.order({ kind: 'close', local })
  }

  handOver(): undefined {
    return undefined
  }

  /** They are the plane's, and end with it. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#opening.clear()
  }
}
