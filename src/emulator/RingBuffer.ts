/**
 * A bounded log, so that the memory of an emulator that runs for days does not grow.
 */

/** How many items of each kind the emulator keeps. */
export const remembered = 10_000

/** Keeps the last 10,000 items. */
export class RingBuffer<A> {
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
