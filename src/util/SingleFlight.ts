import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"

/**
 * Single flight: one run per key at a time, shared by all callers that ask while it is under way.
 *
 * An interrupted caller leaves, and the run goes on for the others. It is interrupted when the last caller leaves, unless it was
 * started in the background. Runs belong to no caller's scope: `shutdown` ends them.
 *
 * Effect's `Cache` shares lookups too, but it can neither start one without a waiter nor guarantee a caller that the lookup
 * began after the call.
 */
export class SingleFlight<K, A, E> {
  readonly #current = new Map<K, Flight<A, E>>()
  /** Flights that start when the current one of their key has ended, for callers of `runAfresh`. */
  readonly #next = new Map<K, Flight<A, E>>()

  /** Whether a run for this key is under way. */
  has(key: K): boolean {
    return this.#current.has(key)
  }

  /** Joins the run of this key, or starts one. */
  run(key: K, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const flight = this.#current.get(key)
        return flight === undefined
          ? this.#launch(key, effect, this.#current, (started) => this.#join(key, started, restore))
          : this.#join(key, flight, restore)
      })
    )
  }

  /** Joins or starts a run that begins after this call. */
  runAfresh(key: K, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const running = this.#current.get(key)
        if (running === undefined) {
          return this.#launch(key, effect, this.#current, (started) => this.#join(key, started, restore))
        }
        const waiting = this.#next.get(key)
        if (waiting !== undefined) return this.#join(key, waiting, restore)
        const afterwards = Effect.andThen(Effect.exit(Deferred.await(running.done)), effect)
        return this.#launch(key, afterwards, this.#next, (started) => this.#join(key, started, restore))
      })
    )
  }

  /** Starts a run in the background, unless one is under way. */
  start(key: K, effect: Effect.Effect<A, E>): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.#current.has(key) ?
        Effect.void :
        Effect.uninterruptible(this.#launch(key, effect, this.#current, (flight) => {
          flight.waiters++
          return Effect.void
        }))
    )
  }

  /** Waits up to `drainTimeout` for the flights to end, then interrupts them. */
  shutdown(drainTimeout: Duration.Input): Effect.Effect<void> {
    return Effect.suspend(() => {
      const flights = [...this.#current.values(), ...this.#next.values()]
      return Effect.forEach(flights, (flight) => Effect.exit(Deferred.await(flight.done)), { concurrency: "unbounded" })
        .pipe(
          Effect.timeoutOption(drainTimeout),
          Effect.andThen(
            Effect.forEach(flights, (flight) => flight.interrupt, { concurrency: "unbounded", discard: true })
          )
        )
    })
  }

  #launch<B, E2>(
    key: K,
    effect: Effect.Effect<A, E>,
    slot: Map<K, Flight<A, E>>,
    then: (flight: Flight<A, E>) => Effect.Effect<B, E2>
  ): Effect.Effect<B, E2> {
    const flight = new Flight<A, E>()
    slot.set(key, flight)
    return effect.pipe(
      Effect.interruptible,
      Effect.onExit((exit) => {
        this.#land(key, flight)
        return Deferred.done(flight.done, exit)
      }),
      // uninterruptible, so that `onExit` also runs for a flight that is interrupted before its first step
      Effect.forkDetach({ uninterruptible: true }),
      Effect.flatMap((fiber) => {
        flight.interrupt = Fiber.interrupt(fiber)
        return then(flight)
      })
    )
  }

  /** Hands the slot of an ended flight to the next one in the same turn, so that no other can start in between. */
  #land(key: K, flight: Flight<A, E>): void {
    const next = this.#next.get(key)
    if (next === flight) this.#next.delete(key)
    if (this.#current.get(key) !== flight) return
    if (next === undefined || next === flight) this.#current.delete(key)
    else {
      this.#next.delete(key)
      this.#current.set(key, next)
    }
  }

  #join(
    key: K,
    flight: Flight<A, E>,
    restore: <B, E2, R>(effect: Effect.Effect<B, E2, R>) => Effect.Effect<B, E2, R>
  ): Effect.Effect<A, E> {
    flight.waiters++
    return Effect.onInterrupt(restore(Deferred.await(flight.done)), () => {
      flight.waiters--
      if (flight.waiters > 0) return Effect.void
      this.#land(key, flight)
      return flight.interrupt
    })
  }
}

class Flight<A, E> {
  readonly done = Deferred.makeUnsafe<A, E>()
  waiters = 0
  interrupt: Effect.Effect<void> = Effect.void
}
