// The queues of a node's TUN, one for each worker. The descriptors stay open here, so that the device outlives a worker; each worker
// has a copy of its own, which it closes. A queue that nobody reads is switched off: the kernel gives its packets to the others.

import type { PortPlan } from '#forward/commands.ts'
import { fileCalls } from '../libc.ts'
import { switchQueue } from '../tun.ts'
import { copyDescriptor } from './udp-socket.ts'

export class PortQueues {
  #plan: PortPlan | undefined
  #fds: readonly number[] = []

  /** The plan with the descriptor that this worker is to have; of another device than before, the one before is closed. */
  planFor(plan: PortPlan, worker: number): PortPlan {
    if (plan !== this.#plan) this.#take(plan)
    const { offload, mtu } = plan
    if (this.#fds.length > 1) switchQueue(this.#fds[worker] ?? -1, true)
    // Where there are fewer queues than workers, some read the same.
    const fd = this.#fds[worker % this.#fds.length] ?? -1
    return { fd: copyDescriptor(fd), offload, mtu }
  }

  /** This worker reads no more. */
  leave(worker: number): void {
    if (this.#fds.length > 1) switchQueue(this.#fds[worker] ?? -1, false)
  }

  /** Closes what there is. */
  close(): void {
    for (const fd of this.#fds) fileCalls().close(fd)
    this.#fds = []
    this.#plan = undefined
  }

  #take(plan: PortPlan): void {
    this.close()
    this.#plan = plan
    this.#fds = [plan.fd, ...(plan.moreFds ?? [])]
    for (let worker = 0; worker < this.#fds.length && this.#fds.length > 1; worker++) this.leave(worker)
  }
}
