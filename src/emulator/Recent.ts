/**
 * The last of many, so that an emulator that runs for days does not grow.
 */

/** How many of each kind the emulator remembers. */
export const remembered = 10_000

/** Remembers the last 10,000 of what is added. */
export class Recent<A> {
  #items: Array<A> = []

  add(item: A): void {
    this.#items.push(item)
    if (this.#items.length >= 2 * remembered) this.#items = this.#items.slice(-remembered)
  }

  /** In the order in which they were added. */
  get all(): ReadonlyArray<A> {
    return this.#items.slice(-remembered)
  }

  clear(): void {
    this.#items = []
  }
}
