import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Pull from "effect/Pull"
import * as Schedule from "effect/Schedule"
import { logError } from "../util/logging.ts"
import { isMemoryless } from "./RefreshPolicy.ts"
import type { RefreshOutcome, RefreshPolicy } from "./RefreshPolicy.ts"

/** The delay of a policy that died, in ms. */
const delayAfterDefect = 30_000

/** The steps that all credentials share: of the policies that keep nothing from one step to the next. */
const shared = new WeakMap<RefreshPolicy, PolicyStep>()

/** The step that serves all credentials; `undefined` for a policy that is stepped for each by itself. */
export const sharedStep = (policy: RefreshPolicy): PolicyStep | undefined => {
  if (!isMemoryless(policy)) return undefined
  const present = shared.get(policy)
  if (present !== undefined) return present
  const made = new PolicyStep(policy)
  shared.set(policy, made)
  return made
}

/** One policy, stepped for one credential, or for all. */
export class PolicyStep {
  readonly #policy: RefreshPolicy
  #step:
    | ((now: number, outcome: RefreshOutcome) => Pull.Pull<[unknown, Duration.Duration], never, unknown>)
    | undefined = undefined

  constructor(policy: RefreshPolicy) {
    this.#policy = policy
  }

  /**
   * The time until which the outcome holds, in ms since the epoch; `Infinity` once the policy has ended. A policy that dies begins
   * again at the next outcome: the store goes on.
   */
  until(now: number, outcome: RefreshOutcome): Effect.Effect<number> {
    return Effect.catchDefect(
      this.#until(now, outcome),
      (defect) =>
        logError("A refresh policy died; it begins again").pipe(
          Effect.annotateLogs({ outcome: outcome._tag, defect: String(defect) }),
          Effect.map(() => {
            this.#step = undefined
            return now + delayAfterDefect
          })
        )
    )
  }

  #until(now: number, outcome: RefreshOutcome) {
    return Effect.gen({ self: this }, function*() {
      this.#step ??= yield* Schedule.toStep(this.#policy)
      return yield* this.#step(now, outcome).pipe(
        Effect.map(([, delay]) => now + Math.max(0, Duration.toMillis(delay))),
        Pull.catchDone(() => Effect.succeed(Infinity))
      )
    })
  }
}
