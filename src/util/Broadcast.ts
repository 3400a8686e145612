import * as Effect from "effect/Effect"
import * as Pipeable from "effect/Pipeable"
import * as PubSub from "effect/PubSub"
import * as Stream from "effect/Stream"

type Listener<A> = (value: A) => Effect.Effect<void>

/**
 * A stream of what is published from now on. What it needs for those who run it is made when the first one does. Parts of the same
 * program can also listen: that takes no fiber, which is a kilobyte or more for each tenant of a platform.
 */
export class Broadcast<A> extends Pipeable.Class implements Stream.Stream<A> {
  readonly #makePubSub: Effect.Effect<PubSub.PubSub<A>>
  #pubSub: PubSub.PubSub<A> | undefined = undefined
  #listeners: Set<Listener<A>> | undefined = undefined
  #isShutDown = false

  constructor(makePubSub: Effect.Effect<PubSub.PubSub<A>>) {
    super()
    this.#makePubSub = makePubSub
  }

  get [Stream.TypeId](): Stream.Stream<A>[Stream.TypeId] {
    return Stream.empty[Stream.TypeId]
  }

  get channel(): Stream.Stream<A>["channel"] {
    return Stream.toChannel(Stream.unwrap(Effect.map(this.#subscribable(), Stream.fromPubSub)))
  }

  #subscribable(): Effect.Effect<PubSub.PubSub<A>> {
    return Effect.suspend(() =>
      this.#pubSub === undefined
        ? Effect.tap(
          Effect.map(this.#makePubSub, (made) => this.#pubSub ??= made),
          (made) => this.#isShutDown ? PubSub.shutdown(made) : Effect.void
        )
        : Effect.succeed(this.#pubSub)
    )
  }

  /** The same, with each value changed. */
  map<B>(change: (value: A) => B): Broadcast<B> {
    return new MappedBroadcast(this, change)
  }

  /** Runs an effect with each value, in the fiber that publishes it, until the function that this returns is called. */
  listen(listener: Listener<A>): () => void {
    const listeners = this.#listeners ??= new Set()
    listeners.add(listener)
    return () => void listeners.delete(listener)
  }

  publish(value: A): Effect.Effect<void> {
    return Effect.suspend(() => {
      const listeners = this.#listeners === undefined
        ? Effect.void
        : Effect.forEach(this.#listeners, (listener) => listener(value), { discard: true })
      return this.#pubSub === undefined ? listeners : Effect.andThen(listeners, PubSub.publish(this.#pubSub, value))
    })
  }

  /** Those who run the stream are interrupted, as with a `PubSub`. */
  shutdown(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.#isShutDown = true
      return this.#pubSub === undefined ? Effect.void : PubSub.shutdown(this.#pubSub)
    })
  }
}

class MappedBroadcast<A, B> extends Broadcast<B> {
  readonly #source: Broadcast<A>
  readonly #change: (value: A) => B

  constructor(source: Broadcast<A>, change: (value: A) => B) {
    super(Effect.never)
    this.#source = source
    this.#change = change
  }

  override get channel(): Stream.Stream<B>["channel"] {
    return Stream.toChannel(Stream.map(this.#source, this.#change))
  }

  override listen(listener: Listener<B>): () => void {
    return this.#source.listen((value) => listener(this.#change(value)))
  }
}
