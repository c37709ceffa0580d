// Which ports of this machine are open to a device: by the configuration, and for a while. Bound: 64 for a while.

import type { PortRule } from '#mesh/firewall.ts'
import type { Config } from '../config.ts'

const MAX_LEASES = 64

interface Lease {
  /** A device's id, or `*`. */
  readonly device: string
  readonly port: number
  readonly end: NodeJS.Timeout
}

export class DevicePorts {
  readonly #allow: () => Config['meet']['allow']
  readonly #onEnd: () => void
  readonly #leases = new Map<string, Lease>()

  /** @param allow the configuration's rules of now; @param onEnd called when a port was closed because its time was over */
  constructor(allow: () => Config['meet']['allow'], onEnd: () => void) {
    this.#allow = allow
    this.#onEnd = onEnd
  }

  /** Opens a port to a device's id, or to all by `*`, for a while; 0 closes it. False when 64 are open. */
  allow(device: string, port: number, forMs: number): boolean {
    const key = `${device} ${port}`
    clearTimeout(this.#leases.get(key)?.end)
    this.#leases.delete(key)
    if (forMs === 0 || this.#leases.size >= MAX_LEASES) return false
    const end = setTimeout(() => {
      this.#leases.delete(key)
      this.#onEnd()
    }, forMs)
    end.unref()
    this.#leases.set(key, { device, port, end })
    return true
  }

  /** What a device may open. */
  rulesOf(id: string, name: string): PortRule[] {
    const lasting = this.#allow().flatMap(rule => {
      if ('network' in rule || (rule.device !== '*' && rule.device !== name)) return []
      return { protocol: rule.protocol, fromPort: rule.from_port, toPort: rule.to_port }
    })
    const leased = [...this.#leases.values()]
      .filter(({ device }) => device === '*' || device === id)
      .flatMap(({ port }) => (['tcp', 'udp'] as const).map(protocol => ({ protocol, fromPort: port, toPort: port })))
    return [...lasting, ...leased]
  }

  close(): void {
    for (const { end } of this.#leases.values()) clearTimeout(end)
  }
}
