import type * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import * as Layer from "effect/Layer"
import * as Option from "effect/Option"
import * as CircuitBreaker from "effect/persistence/CircuitBreaker"
import * as Schema from "effect/Schema"
import type * as Scope from "effect/Scope"
import { AdenCircuitOpen, AdenUnavailable } from "../CredentialError.ts"
import type { AdenFailure } from "../CredentialError.ts"

/** Leaves an Aden alone that does not answer: the circuit of docs/contract.md, one per key. */
export class AdenCircuit {
  readonly #breaker: CircuitBreaker.CircuitBreaker

  constructor(breaker: CircuitBreaker.CircuitBreaker) {
    this.#breaker = breaker
  }

  static readonly make = Effect.fnUntraced(function*(options: {
    readonly failures: number
    readonly openFor: Duration.Duration
  }): Effect.fn.Return<AdenCircuit, never, Scope.Scope> {
    return new AdenCircuit(
      yield* CircuitBreaker.make({
        tripPolicy: CircuitBreaker.consecutive(options.failures),
        openDuration: options.openFor
      }).pipe(Effect.provideContext(yield* Layer.build(CircuitBreaker.layerStoreMemory())))
    )
  })

  /** One attempt, unless the circuit is open. */
  guard<A, E extends AdenFailure>(
    key: string,
    id: string | undefined,
    self: Effect.Effect<A, E>
  ): Effect.Effect<A, E | AdenUnavailable> {
    return self.pipe(
      this.#breaker.execute<A, E>({ key, classify: outcomeOf }),
      Effect.catchIf(Schema.is(CircuitBreaker.CircuitBreakerError), ({ reason }) => {
        const retryAfter = reason._tag === "CircuitOpen" ? reason.retryAfter : undefined
        return Effect.fail(new AdenUnavailable({ id, reason: new AdenCircuitOpen({ retryAfter }) }))
      })
    )
  }
}

/** Only what looks like an outage counts against the circuit; a proxy's refusal says nothing about Aden. */
const outcomeOf = (exit: Exit.Exit<unknown, AdenFailure>): CircuitBreaker.Outcome => {
  if (Exit.isSuccess(exit)) return CircuitBreaker.success
  const error = Option.getOrUndefined(Exit.findErrorOption(exit))
  if (error === undefined) return CircuitBreaker.ignored
  if (error._tag !== "AdenUnavailable") return CircuitBreaker.success
  return error.reason._tag === "AdenProtocolError" && !error.reason.isTransient
    ? CircuitBreaker.ignored
    : CircuitBreaker.failure()
}
