/**
 * A splittable pseudo-random generator (SplitMix32): the same seed gives the same numbers on every machine, and what a split
 * draws does not depend on how much its parent draws afterwards.
 */
export class Prng {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** A whole number from 0 to 2^32 - 1. */
  next(): number {
    this.#state = (this.#state + 0x9e3779b9) >>> 0
    let z = this.#state
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad)
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97)
    return (z ^ (z >>> 15)) >>> 0
  }

  /** A number from 0 (inclusive) to 1 (exclusive). */
  fraction(): number {
    return this.next() / 0x1_0000_0000
  }

  /** A whole number from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor(this.fraction() * limit)
  }

  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + this.below(to - from + 1)
  }

  chance(probability: number): boolean {
    return this.fraction() < probability
  }

  pick<A>(items: readonly [A, ...Array<A>]): A {
    return items[this.below(items.length)] ?? items[0]
  }

  /** One of several, each as often as its weight says. */
  weighted<A>(items: readonly [readonly [weight: number, item: A], ...Array<readonly [weight: number, item: A]>]): A {
    let left = this.fraction() * items.reduce((sum, [weight]) => sum + weight, 0)
    for (const [weight, item] of items) {
      left -= weight
      if (left < 0) return item
    }
    return items[0][1]
  }

  /** A generator of its own. */
  split(): Prng {
    return new Prng(this.next())
  }
}
