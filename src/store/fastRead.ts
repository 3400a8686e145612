import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import type * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

/** One of this many reads in a generator is a step of its fiber, so that a loop of reads lets other fibers run. */
const inlineReads = 16

/**
 * A fast path: an effect that returns the result of `fresh` if there is one, and runs `read` otherwise.
 *
 * A generator that yields an `Exit` goes on in the same step of its fiber, so `yield*` hands it over as soon as it is there.
 */
export class FastRead<A, E> extends Effectable.Class<A, E> {
  readonly #fresh: (fiber: Fiber.Fiber<unknown, unknown>) => Exit.Exit<A> | undefined
  readonly #run: Effect.Effect<A, E>
  #reads = 0

  constructor(
    fresh: (fiber: Fiber.Fiber<unknown, unknown>) => Exit.Exit<A> | undefined,
    read: Effect.Effect<A, E>
  ) {
    super()
    this.#fresh = fresh
    this.#run = Effect.withFiber<A, E>((fiber) => fresh(fiber) ?? read)
  }

  override asEffect(): Effect.Effect<A, E> {
    return this.#run
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<A, E>> {
    const fiber = ++this.#reads % inlineReads === 0 ? undefined : Fiber.getCurrent()
    return ((fiber === undefined ? undefined : this.#fresh(fiber)) ?? this.#run)[Symbol.iterator]()
  }
}
