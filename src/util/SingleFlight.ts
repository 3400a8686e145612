import * as Clock from "effect/Clock"
import * as Deferred from "effect/Deferred"
import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import { monotonicMillis } from "./monotonic.ts"

/** When a run counts as dead that a caller waited for in vain, in ms. */
const defaultAbandonAfter = 20_000

/**
 * Single flight: one run per key at a time, shared by all callers that ask while it is under way.
 *
 * A run that has been asked for goes on to its end, although every caller has left: what it obtains may be lost otherwise. Runs
 * belong to no caller's scope: `shutdown` ends them.
 *
 * Effect's `Cache` shares lookups too, but it can neither start one without a waiter nor guarantee a caller that the lookup
 * began after the call.
 */
export class SingleFlight<K, A, E> {
  readonly #abandonAfter: number
  readonly #endsWithLastCaller: boolean
  // there while flights are: every tenant of a platform has several of these, which seldom run
  #slots: Slots<K, A, E> | undefined = undefined

  /**
   * `abandonAfter`: when a caller has waited for a run so long in vain, in ms, and leaves, the run may be dead (on some platforms a
   * request ends, and all that it started): it is interrupted, and the next caller starts another. 20 s by default.
   * `endsWithLastCaller`: the run is interrupted when its last caller has left.
   */
  constructor(
    options: { readonly abandonAfter?: number | undefined; readonly endsWithLastCaller?: boolean | undefined } = {}
  ) {
    this.#abandonAfter = options.abandonAfter ?? defaultAbandonAfter
    this.#endsWithLastCaller = options.endsWithLastCaller ?? false
  }

  get #made(): Slots<K, A, E> {
    return this.#slots ??= { current: new Map(), next: new Map(), all: new Set() }
  }

  /** Whether a run for this key is under way. */
  has(key: K): boolean {
    return this.#slots?.current.has(key) === true
  }

  /** Joins the run of this key, or starts one. */
  run(key: K, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const again = Effect.suspend(() => this.run(key, effect))
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const flight = this.#made.current.get(key)
        return flight === undefined
          ? this.#launch(key, effect, this.#made.current, (started) => this.#join(key, started, restore, again))
          : this.#join(key, flight, restore, again)
      })
    )
  }

  /** Joins or starts a run that begins after this call. */
  runAfresh(key: K, effect: Effect.Effect<A, E>): Effect.Effect<A, E> {
    const again = Effect.suspend(() => this.runAfresh(key, effect))
    return Effect.uninterruptibleMask((restore) =>
      Effect.suspend(() => {
        const running = this.#made.current.get(key)
        if (running === undefined) {
          return this.#launch(key, effect, this.#made.current, (started) => this.#join(key, started, restore, again))
        }
        const waiting = this.#made.next.get(key)
        if (waiting !== undefined) return this.#join(key, waiting, restore, again)
        const join = (started: Flight<A, E>) => this.#join(key, started, restore, again)
        return this.#launch(key, effect, this.#made.next, join, running.isOver)
      })
    )
  }

  /** Starts a run in the background, unless one is under way. */
  start(key: K, effect: Effect.Effect<A, E>): Effect.Effect<void> {
    return Effect.suspend(() =>
      this.has(key)
        ? Effect.void
        : Effect.uninterruptible(this.#launch(key, effect, this.#made.current, () => Effect.void))
    )
  }

  /**
   * Waits up to `drainTimeout` for the flights to end, then interrupts them. The time is also measured by the clock of the machine: a
   * test clock that is not moved any more does not keep a scope open.
   */
  shutdown(drainTimeout: Duration.Input): Effect.Effect<void> {
    return Effect.suspend(() => {
      const flights = Array.from(this.#slots?.all ?? [])
      if (flights.length === 0) return Effect.void
      const landed = Effect.forEach(flights, (flight) => flight.isOver, {
        concurrency: "unbounded",
        discard: true
      })
      const timeout = Effect.sleep(drainTimeout)
      return Effect.raceFirst(
        landed,
        Effect.raceFirst(timeout, Effect.provideService(timeout, Clock.Clock, Clock.Clock.defaultValue()))
      ).pipe(
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
    then: (flight: Flight<A, E>) => Effect.Effect<B, E2>,
    after?: Effect.Effect<void>
  ): Effect.Effect<B, E2> {
    const flight = new Flight<A, E>()
    slot.set(key, flight)
    this.#made.all.add(flight)
    return Effect.flatMap(monotonicMillis, (now) => {
      flight.begunAt = now
      return effect
    }).pipe(
      (run) => after === undefined ? run : Effect.andThen(after, run),
      Effect.interruptible,
      Effect.onExit((exit) => {
        this.#land(key, flight)
        this.#slots?.all.delete(flight)
        if (this.#slots?.all.size === 0) this.#slots = undefined
        // those who waited for a run that was given up wait for the next
        return flight.isAbandoned ? Effect.void : Deferred.done(flight.done, exit)
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
    if (this.#slots === undefined) return
    const { current, next } = this.#slots
    const waiting = next.get(key)
    if (waiting === flight) next.delete(key)
    if (current.get(key) !== flight) return
    if (waiting === undefined || waiting === flight) current.delete(key)
    else {
      next.delete(key)
      current.set(key, waiting)
    }
  }

  #join(
    key: K,
    flight: Flight<A, E>,
    restore: <B, E2, R>(effect: Effect.Effect<B, E2, R>) => Effect.Effect<B, E2, R>,
    again: Effect.Effect<A, E>
  ): Effect.Effect<A, E> {
    flight.waiters++
    return Effect.flatMap(
      monotonicMillis,
      (since) =>
        Effect.onInterrupt(
          restore(this.#outcomeOf(flight, again, since)),
          () =>
            Effect.flatMap(monotonicMillis, (now) => {
              flight.waiters--
              // a run that has not begun waits for the one before it
              const current = this.#slots?.current.get(key)
              if (current === undefined || (current !== flight && this.#slots?.next.get(key) !== flight)) {
                return Effect.void
              }
              const isInVain = now - Math.max(since, current.begunAt) >= this.#abandonAfter
              const isLeft = this.#endsWithLastCaller && current === flight && flight.waiters <= 0
              return isInVain || isLeft ? this.#abandon(key, current) : Effect.void
            })
        )
    )
  }

  /** What a flight comes to for one who has waited since then. */
  #outcomeOf(flight: Flight<A, E>, again: Effect.Effect<A, E>, since: number): Effect.Effect<A, E> {
    const next = Effect.flatMap(monotonicMillis, (now) =>
      // one who has waited as long as the one that gave it up is about to leave as well, and need not start another
      now - since < this.#abandonAfter ? again : Effect.andThen(Effect.sleep(this.#abandonAfter / 8), again))
    return Effect.raceFirst(Deferred.await(flight.done), Effect.andThen(Deferred.await(flight.abandoned), next))
  }

  #abandon(key: K, flight: Flight<A, E>): Effect.Effect<void> {
    this.#land(key, flight)
    flight.isAbandoned = true
    // a fiber that is bound to the async context of a request that has ended dies of the first interruption that comes from another
    // request, and takes the second: only then are its locks free
    const interrupt = Effect.catchDefect(flight.interrupt, () => flight.interrupt)
    return Effect.andThen(Effect.forkDetach(interrupt), Deferred.succeed(flight.abandoned, undefined))
  }
}

interface Slots<K, A, E> {
  readonly current: Map<K, Flight<A, E>>
  /** Flights that start when the current one of their key has ended, for callers of `runAfresh`. */
  readonly next: Map<K, Flight<A, E>>
  /** All flights that have not ended, also those that no caller joins any more. */
  readonly all: Set<Flight<A, E>>
}

class Flight<A, E> {
  readonly done = Deferred.makeUnsafe<A, E>()
  readonly abandoned = Deferred.makeUnsafe<void>()
  isAbandoned = false
  waiters = 0
  /** In ms; of one that waits for its predecessor, when that one is over. */
  begunAt = -Infinity
  interrupt: Effect.Effect<void> = Effect.void

  /** Waits until the flight has ended, or its callers have given it up. */
  get isOver(): Effect.Effect<void> {
    return Effect.raceFirst(Effect.exit(Deferred.await(this.done)), Deferred.await(this.abandoned))
  }
}
