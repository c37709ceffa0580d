// How much memory the windows of streams may claim beyond what every stream has from the start. Windows grow only while
// there is budget, so many streams share the memory that one fast stream may have to itself.

export class WindowBudget {
  readonly #parent: WindowBudget | undefined
  #left: number

  /** `bytes` in all, and never more than the parent has left. */
  constructor(bytes: number, parent?: WindowBudget) {
    this.#left = bytes
    this.#parent = parent
  }

  get left(): number {
    return this.#left
  }

  /** Claims `bytes`; false, and nothing is claimed, when there are not so many left. */
  take(bytes: number): boolean {
    if (bytes > this.#left || this.#parent?.take(bytes) === false) return false
    this.#left -= bytes
    return true
  }

  give(bytes: number): void {
    this.#left += bytes
    this.#parent?.give(bytes)
  }
}
