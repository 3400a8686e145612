/**
 * Time for durations. The time of day may be set, and a wait that is measured by it would last for hours then, or end at once.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"

/** Whole ms since any moment: only differences mean something, and only within this process. */
export const monotonicMillisUnsafe = (clock: Clock.Clock): number =>
  Number(clock.monotonicTimeNanosUnsafe() / 1_000_000n)

export const monotonicMillis: Effect.Effect<number> = Effect.clockWith((clock) =>
  Effect.sync(() => monotonicMillisUnsafe(clock))
)

/** Runs what measures durations by the time of day with a clock whose time of day is {@link monotonicMillis}. */
export const withMonotonicTime = <A, E, R>(self: Effect.Effect<A, E, R>): Effect.Effect<A, E, R> =>
  Effect.clockWith((clock) => {
    const monotonic = monotonicClocks.get(clock) ?? new MonotonicClock(clock)
    monotonicClocks.set(clock, monotonic)
    return Effect.provideService(self, Clock.Clock, monotonic)
  })

/** Made once for each clock. */
const monotonicClocks = new WeakMap<Clock.Clock, Clock.Clock>()

class MonotonicClock implements Clock.Clock {
  readonly #clock: Clock.Clock

  constructor(clock: Clock.Clock) {
    this.#clock = clock
  }

  currentTimeMillisUnsafe(): number {
    return monotonicMillisUnsafe(this.#clock)
  }

  currentTimeNanosUnsafe(): bigint {
    return this.#clock.monotonicTimeNanosUnsafe()
  }

  monotonicTimeNanosUnsafe(): bigint {
    return this.#clock.monotonicTimeNanosUnsafe()
  }

  readonly currentTimeMillis = Effect.sync(() => this.currentTimeMillisUnsafe())
  readonly currentTimeNanos = Effect.sync(() => this.currentTimeNanosUnsafe())
  readonly monotonicTimeNanos = Effect.sync(() => this.monotonicTimeNanosUnsafe())

  sleep(duration: Parameters<Clock.Clock["sleep"]>[0]): Effect.Effect<void> {
    return this.#clock.sleep(duration)
  }
}
