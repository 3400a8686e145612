import * as Pipeable from "effect/Pipeable"
import * as Stream from "effect/Stream"

/**
 * `Stream.suspend`, without what that keeps of each stream: half a kilobyte for each store of a platform, most of which run none.
 */
export class LazyStream<A, E> extends Pipeable.Class implements Stream.Stream<A, E> {
  readonly #make: () => Stream.Stream<A, E>

  constructor(make: () => Stream.Stream<A, E>) {
    super()
    this.#make = make
  }

  get [Stream.TypeId](): Stream.Stream<A, E>[Stream.TypeId] {
    return Stream.empty[Stream.TypeId]
  }

  get channel(): Stream.Stream<A, E>["channel"] {
    return Stream.toChannel(Stream.suspend(this.#make))
  }
}
