import * as Effect from "effect/Effect"
import * as Effectable from "effect/Effectable"
import * as Exit from "effect/Exit"
import * as Fiber from "effect/Fiber"

/** One of this many reads of a ref in a generator is a step of its fiber, so that a loop of reads lets other fibers run. */
const inlineReads = 32

/**
 * What reads return while it is fresh. As an iterator it has ended, so a generator that hands over to it with `yield*` goes on at once,
 * without a step of its fiber.
 */
export class Answer<A> {
  readonly done = true
  readonly value: A

  constructor(value: A) {
    this.value = value
  }

  next(): this {
    return this
  }
}

/** A fast path: an effect that returns what `fresh` has if there is anything, and runs `read` otherwise. */
export abstract class FastRead<A, E> extends Effectable.Class<A, E> {
  #run: Effect.Effect<A, E> | undefined = undefined
  #readsInGenerators = 0

  protected abstract fresh(fiber: Fiber.Fiber<unknown, unknown>): Answer<A> | undefined

  protected abstract read(): Effect.Effect<A, E>

  override asEffect(): Effect.Effect<A, E> {
    return this.#run ??= this.#running()
  }

  #running(): Effect.Effect<A, E> {
    return Effect.withFiber<A, E>((fiber) => {
      const answer = this.fresh(fiber)
      return answer === undefined ? this.read() : Exit.succeed(answer.value)
    })
  }

  override [Symbol.iterator](): Effect.EffectIterator<Effect.Effect<A, E>> {
    const fiber = ++this.#readsInGenerators % inlineReads === 0 ? undefined : Fiber.getCurrent()
    return (fiber === undefined ? undefined : this.fresh(fiber)) ?? this.#running()[Symbol.iterator]()
  }
}
