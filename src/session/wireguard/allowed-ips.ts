// Which peer an address belongs to: the longest matching prefix over all peers of a device (WireGuard paper §2).
//
// Two binary tries, one per family, in which a node stands for a prefix and its children for longer ones; runs of bits
// with one child only are skipped. A lookup compares bytes where they lie and makes nothing.
//
//   0.0.0.0/0 ─► 10.0.0.0/8 ─┬─ 10.1.0.0/16      a node without a value is a fork only
//                            └─ 10.192.0.0/10

/** A range of addresses: 4 or 16 bytes, of which the first `bits` count. */
export interface Prefix {
  readonly address: Uint8Array
  readonly bits: number
}

interface Node<Value> {
  readonly address: Uint8Array
  readonly bits: number
  value: Value | undefined
  zero: Node<Value> | undefined
  one: Node<Value> | undefined
}

export class AllowedIps<Value extends object> {
  #root4: Node<Value> | undefined
  #root6: Node<Value> | undefined
  #size = 0

  /** How many prefixes there are. */
  get size(): number {
    return this.#size
  }

  /** The value of the longest prefix that the address at `offset` is in. */
  lookup(buffer: Uint8Array, offset: number, family: 4 | 6): Value | undefined {
    const addressBits = family === 4 ? 32 : 128
    let node = family === 4 ? this.#root4 : this.#root6
    let found: Value | undefined
    while (node !== undefined && isWithin(buffer, offset, node)) {
      if (node.value !== undefined) found = node.value
      if (node.bits === addressBits) break
      node = bitAt(buffer, offset, node.bits) === 0 ? node.zero : node.one
    }
    return found
  }

  /** Gives a prefix to `value`, taking it from whoever had it; bits beyond the prefix do not count. */
  insert(prefix: Prefix, value: Value): void {
    const { bits } = prefix
    const address = masked(prefix)
    const made: Node<Value> = { address, bits, value, zero: undefined, one: undefined }
    if (address.length === 4) this.#root4 = this.#insertBelow(this.#root4, made)
    else this.#root6 = this.#insertBelow(this.#root6, made)
  }

  /** Takes every prefix from `value`. */
  removeAll(value: Value): void {
    this.#root4 = this.#prune(this.#root4, value)
    this.#root6 = this.#prune(this.#root6, value)
  }

  /** Every prefix with its value, IPv4 first, in the order of their addresses. */
  *entries(): Generator<readonly [Prefix, Value]> {
    const waiting = [this.#root6, this.#root4]
    while (waiting.length > 0) {
      const node = waiting.pop()
      if (node === undefined) continue
      if (node.value !== undefined) yield [{ address: Uint8Array.from(node.address), bits: node.bits }, node.value]
      waiting.push(node.one, node.zero)
    }
  }

  #insertBelow(node: Node<Value> | undefined, made: Node<Value>): Node<Value> {
    if (node === undefined) {
      this.#size++
      return made
    }
    const common = commonBits(node, made)
    if (common === node.bits && common === made.bits) {
      if (node.value === undefined) this.#size++
      node.value = made.value
      return node
    }
    if (common === node.bits) {
      if (bitAt(made.address, 0, common) === 0) node.zero = this.#insertBelow(node.zero, made)
      else node.one = this.#insertBelow(node.one, made)
      return node
    }
    this.#size++
    const above = common === made.bits ? made : fork<Value>(made.address, common)
    for (const child of above === made ? [node] : [node, made]) {
      if (bitAt(child.address, 0, common) === 0) above.zero = child
      else above.one = child
    }
    return above
  }

  #prune(node: Node<Value> | undefined, value: Value): Node<Value> | undefined {
    if (node === undefined) return undefined
    node.zero = this.#prune(node.zero, value)
    node.one = this.#prune(node.one, value)
    if (node.value === value) {
      node.value = undefined
      this.#size--
    }
    if (node.value !== undefined || (node.zero !== undefined && node.one !== undefined)) return node
    return node.zero ?? node.one
  }
}

/** Whether a prefix can be inserted: 4 or 16 bytes, and no more bits than they have. */
export function isPrefix({ address, bits }: Prefix): boolean {
  return (
    (address.length === 4 || address.length === 16) && Number.isInteger(bits) && bits >= 0 && bits <= address.length * 8
  )
}

function fork<Value>(address: Uint8Array, bits: number): Node<Value> {
  return { address: masked({ address, bits }), bits, value: undefined, zero: undefined, one: undefined }
}

function masked({ address, bits }: Prefix): Uint8Array {
  return Uint8Array.from(address, (byte, i) => byte & (0xff00 >>> Math.min(8, Math.max(0, bits - i * 8))))
}

function bitAt(buffer: Uint8Array, offset: number, bit: number): number {
  return ((buffer[offset + (bit >>> 3)] ?? 0) >>> (7 - (bit & 7))) & 1
}

function isWithin<Value>(buffer: Uint8Array, offset: number, node: Node<Value>): boolean {
  const whole = node.bits >>> 3
  const { address } = node
  for (let i = 0; i < whole; i++) if (buffer[offset + i] !== address[i]) return false
  const rest = node.bits & 7
  return rest === 0 || (((buffer[offset + whole] ?? 0) ^ (address[whole] ?? 0)) & (0xff00 >>> rest) & 0xff) === 0
}

function commonBits(a: Prefix, b: Prefix): number {
  const most = Math.min(a.bits, b.bits)
  let bit = 0
  while (bit < most && bitAt(a.address, 0, bit) === bitAt(b.address, 0, bit)) bit++
  return bit
}
