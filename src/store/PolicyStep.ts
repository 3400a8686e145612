import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import type { RefreshOutcome, RefreshPolicy } from "./RefreshPolicy.ts"

/** One policy, stepped for one credential. */
export class PolicyStep {
  readonly #policy: RefreshPolicy
  #step:
    | ((now: number, outcome: RefreshOutcome) => Pull.Pull<[unknown, Duration.Duration], never, unknown>)
    | undefined = undefined

  constructor(policy: RefreshPolicy) {
    this.#policy = policy
  }

  /** The time until which the outcome holds, in ms since the epoch; `Infinity` once the policy has ended. */
  readonly until = Effect.fnUntraced(function*(this: PolicyStep, now: number, outcome: RefreshOutcome) {
    this.#step ??= yield* Schedule.toStep(this.#policy)
    return yield* this.#step(now, outcome).pipe(
      Effect.map(([, delay]) => now + Math.max(0, Duration.toMillis(delay))),
      Pull.catchDone(() => Effect.succeed(Infinity))
    )
  })

  /** Starts the policy again from its first step. */
  restart(): void {
    this.#step = undefined
  }
}
