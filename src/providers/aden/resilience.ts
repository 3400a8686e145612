import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { AdenCircuitOpen, AdenUnavailable } from "../../errors/AdenError.ts"
import type { AdenFailure } from "../../errors/AdenError.ts"
import { withMonotonicTime } from "../../util/monotonic.ts"
import { BypassCircuit } from "../CredentialProvider.ts"

const firstOpening = Duration.seconds(1)
const growth = 1.55
const jitter = 0.775

/**
 * How long the circuit stays open each time: about a second, then 1.2 to 2 times as long as the time before, at most `longest`.
 * Jittered, so that clients which lost Aden at the same moment do not all come back at the same moment.
 */
const openDurations = (longest: Duration.Duration): Schedule.Schedule<unknown> =>
  Schedule.min([Schedule.exponential(firstOpening, growth), Schedule.spaced(longest)]).pipe(
    Schedule.modifyDelay(({ duration }) =>
      Effect.map(
        Random.next,
        (random) => Duration.millis(Math.round(Duration.toMillis(duration) * (jitter + (1 - jitter) * random)))
      )
    )
  )

/** Where the circuits are kept. How long one stays open is a duration, whatever the time of day is set to. */
const Store = Layer.suspend(() =>
  Layer.effect(
    CircuitBreaker.CircuitBreakerStore,
    Effect.map(CircuitBreaker.CircuitBreakerStore, (store) => ({
      admit: (key: string) => withMonotonicTime(store.admit(key)),
      record: (outcome: Parameters<typeof store.record>[0]) => withMonotonicTime(store.record(outcome)),
      state: (key: string) => withMonotonicTime(store.state(key))
    }))
  ).pipe(Layer.provide(CircuitBreaker.layerStoreMemory()))
)

/** When a circuit opens, and for how long at most. */
export interface CircuitOptions {
  readonly failures: number
  readonly openFor: Duration.Duration
}

/** The circuit breaker of docs/contract.md, one circuit per key. */
export class AdenCircuit {
  readonly #breaker: CircuitBreaker.CircuitBreaker

  constructor(breaker: CircuitBreaker.CircuitBreaker) {
    this.#breaker = breaker
  }

  static readonly make = Effect.fnUntraced(
    function*(options: CircuitOptions): Effect.fn.Return<AdenCircuit, never, Scope.Scope> {
      // circuits are shared with nobody, wherever this runs
      const store = yield* Layer.buildWithMemoMap(Store, yield* Layer.makeMemoMap, yield* Effect.scope)
      return new AdenCircuit(
        yield* CircuitBreaker.make({
          tripPolicy: CircuitBreaker.consecutive(options.failures),
          openDuration: openDurations(options.openFor)
        }).pipe(Effect.provideContext(store))
      )
    }
  )

  /** Runs one attempt, unless the circuit is open. */
  guard<A, E extends AdenFailure>(
    key: string,
    id: string | undefined,
    self: Effect.Effect<A, E>
  ): Effect.Effect<A, E | AdenUnavailable> {
    return this.#breaker.execute(self, { key, classify: outcomeOf }).pipe(
      Effect.catchIf(
        Schema.is(CircuitBreaker.CircuitBreakerError),
        ({ reason }): Effect.Effect<A, E | AdenUnavailable> => {
          const retryAfter = reason._tag === "CircuitOpen" ? reason.retryAfter : undefined
          const refused: Effect.Effect<A, E | AdenUnavailable> = Effect.fail(
            new AdenUnavailable({ id, reason: new AdenCircuitOpen({ retryAfter }) })
          )
          return Effect.flatMap(BypassCircuit, (passes) => passes ? self : refused)
        }
      )
    )
  }
}

/** Only an apparent outage counts as a failure. A proxy's refusal tells nothing about Aden and is ignored. */
const outcomeOf = (exit: Exit.Exit<unknown, AdenFailure>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  if (error === undefined) return CircuitBreaker.ignored
  if (error._tag !== "AdenUnavailable") return CircuitBreaker.success
  return error.reason._tag === "AdenProtocolError" && !error.reason.isTransient
    ? CircuitBreaker.ignored
    : CircuitBreaker.failure()
}

/** The client's retries: transient failures, by the schedule; a `Retry-After` is the minimum of the next delay. */
export const retryPolicy = (schedule: Schedule.Schedule<unknown, AdenFailure>, maxRetryAfter: Duration.Duration) => ({
  schedule: Schedule.modifyDelay(
    schedule,
    ({ duration, input }) =>
      Effect.succeed(input._tag === "RateLimited" ? Duration.max(duration, input.retryAfter) : duration)
  ),
  while: (error: AdenFailure): boolean => isTransient(error, maxRetryAfter)
})

const isTransient = (error: AdenFailure, maxRetryAfter: Duration.Duration): boolean => {
  if (error._tag === "RateLimited") return Duration.isLessThanOrEqualTo(error.retryAfter, maxRetryAfter)
  if (error._tag !== "AdenUnavailable") return false
  switch (error.reason._tag) {
    case "AdenConnectionFailed":
    case "AdenTimeout":
      return true
    case "AdenProtocolError":
      return error.reason.isTransient
    case "AdenCircuitOpen":
      return false
  }
}
