// Cuts a stream into requests of WireGuard's configuration protocol (uapi.ts): one ends where an empty line does.

import { decodeUapiRequest, type UapiRequest } from './uapi.ts'

export const MAX_UAPI_REQUEST_BYTES = 1024 * 1024
const FIRST_BYTES = 4096
const LF = 0x0a

export class UapiReader {
  #held = new Uint8Array(FIRST_BYTES)
  #length = 0
  #isOverfull = false

  /** Takes what came and gives the requests that it ends; `undefined`, from then on, when one has more than 1 MiB. */
  push(bytes: Uint8Array): readonly UapiRequest[] | undefined {
    const requests: UapiRequest[] = []
    for (let from = 0; from < bytes.length && !this.#isOverfull; ) {
      const end = this.#endIn(bytes, from)
      this.#append(bytes.subarray(from, end ?? bytes.length))
      from = end ?? bytes.length
      if (end === undefined || this.#isOverfull) continue
      requests.push(decodeUapiRequest(this.#held.subarray(0, this.#length)))
      this.wipe()
    }
    return this.#isOverfull ? undefined : requests
  }

  /** Forgets what is held: there may be keys in it. */
  wipe(): void {
    this.#held.fill(0, 0, this.#length)
    this.#length = 0
  }

  /** Where the request in hand ends, behind its empty line; an empty line alone is one too. */
  #endIn(bytes: Uint8Array, from: number): number | undefined {
    for (let at = bytes.indexOf(LF, from); at >= 0; at = bytes.indexOf(LF, at + 1)) {
      const isFirst = at === from && this.#length === 0
      const before = at > from ? bytes[at - 1] : this.#held[this.#length - 1]
      if (isFirst || before === LF) return at + 1
    }
    return undefined
  }

  #append(bytes: Uint8Array): void {
    const length = this.#length + bytes.length
    if (length > MAX_UAPI_REQUEST_BYTES) {
      this.wipe()
      this.#isOverfull = true
      return
    }
    if (length > this.#held.length) {
      const larger = new Uint8Array(Math.max(length, Math.min(MAX_UAPI_REQUEST_BYTES, this.#held.length * 2)))
      larger.set(this.#held.subarray(0, this.#length))
      this.#held.fill(0)
      this.#held = larger
    }
    this.#held.set(bytes, this.#length)
    this.#length = length
  }
}
