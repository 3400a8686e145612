/**
 * When Aden may be asked again. A policy is a `Schedule` that is stepped once per outcome: its delay is the time until the next
 * question, and a schedule that has ended means: not until somebody asks explicitly. Each credential steps schedules of its
 * own. See docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import * as Schedule from "effect/Schedule"
import { failureDelay, renewalLead } from "../model/freshness.ts"

/**
 * What came of asking Aden:
 *
 * - `Fetched`: a token. `timeLeft` until it expires (infinite when it does not), `life` from its first receipt to its
 *   expiry where that is known, and the provider's `buffer`.
 * - `Confirmed`: Aden answered for the credential.
 * - `Failed`: no answer, or a refusal, by the tag of the error. `retryAfter` is how long Aden asked to be left alone (429);
 *   `timeLeft` until the token at hand expires, zero when it has or there is none.
 * - `Blocked`: a person has to authorize again.
 * - `Missing`: Aden does not list what was asked for.
 *
 * @since 0.1.0
 * @category models
 */
export type RefreshOutcome =
  | {
    readonly _tag: "Fetched"
    readonly timeLeft: Duration.Duration
    readonly life: Duration.Duration | undefined
    readonly buffer: Duration.Duration
  }
  | { readonly _tag: "Confirmed" }
  | {
    readonly _tag: "Failed"
    readonly error: string
    readonly retryAfter: Duration.Duration | undefined
    readonly timeLeft: Duration.Duration
  }
  | { readonly _tag: "Blocked" }
  | { readonly _tag: "Missing" }

/**
 * One policy: the delay of each step is the time until Aden may be asked again.
 *
 * @since 0.1.0
 * @category models
 */
export type RefreshPolicy = Schedule.Schedule<unknown, RefreshOutcome>

/**
 * The policies of a store. Each can be replaced through the `policy` option of `CredentialStore.layer`.
 *
 * @since 0.1.0
 * @category models
 */
export interface RefreshPolicies {
  /** Stepped on `Fetched`: when the token is renewed. {@link renewInTime} by default. */
  readonly renew: RefreshPolicy
  /** Stepped on `Confirmed`: when Aden is asked to confirm the credential. {@link confirmWithin} `cacheTtl` by default. */
  readonly confirm: RefreshPolicy
  /** Stepped on `Failed`: when Aden is asked again. {@link backOff} by default. */
  readonly backOff: RefreshPolicy
  /** Stepped on `Blocked`: when a read checks a blocked credential again. {@link recheckBlocked} by default. */
  readonly recheck: RefreshPolicy
  /** Stepped on `Missing`: how long a ref is remembered as missing. {@link rememberMissing} by default. */
  readonly missing: RefreshPolicy
}

/**
 * The provider's buffer before the expiry, times a factor between 0.8 and 1.2 that is drawn once per token, and never in the
 * first half of the token's life. A token that does not expire is never renewed.
 *
 * @since 0.1.0
 * @category policies
 */
export const renewInTime: RefreshPolicy = Schedule.forever.pipe(
  Schedule.setInputType<RefreshOutcome>(),
  Schedule.modifyDelay(({ input }) => {
    if (input._tag !== "Fetched" || !Duration.isFinite(input.timeLeft)) return Effect.succeed(Duration.infinity)
    const { buffer, life, timeLeft } = input
    return Effect.map(Random.next, (random) => {
      const lead = renewalLead({
        buffer: Duration.toMillis(buffer),
        life: life === undefined ? undefined : Duration.toMillis(life),
        jitter: 0.8 + 0.4 * random
      })
      return Duration.millis(Math.max(0, Duration.toMillis(timeLeft) - lead))
    })
  })
)

/**
 * At most `cacheTtl` after the last confirmation, and up to a fifth of it earlier, drawn anew each time: clients that were once
 * answered at the same moment, after an outage or because they were started together, do not ask at the same moment ever after.
 *
 * @since 0.1.0
 * @category policies
 */
export const confirmWithin = (cacheTtl: Duration.Input): RefreshPolicy =>
  Schedule.spaced(cacheTtl).pipe(
    Schedule.modifyDelay(({ duration }) =>
      Effect.map(Random.next, (random) => Duration.times(duration, 0.8 + 0.2 * random))
    )
  )

/**
 * After failures: exponential from 5 seconds, factor 2, at most 5 minutes, jittered. A success starts it anew. For a fleet of
 * clients that lose the same Aden:
 *
 * - A delay takes at most three quarters of the time that the token at hand has left (1 second at least): no token runs out
 *   because its client waits while Aden is back.
 * - A hint of Aden's (`retryAfter`) is a floor. Who fails again comes up to as much later as the hint is long (1 to 5 minutes):
 *   all those whom Aden told the same moment do not go on coming at the same moment.
 *
 * @since 0.1.0
 * @category policies
 */
export const backOff: RefreshPolicy = Schedule.min([
  Schedule.exponential("5 seconds"),
  Schedule.spaced("5 minutes")
]).pipe(
  Schedule.jittered,
  Schedule.setInputType<RefreshOutcome>(),
  Schedule.modifyDelay(({ attempt, duration, input }) =>
    input._tag !== "Failed" ?
      Effect.succeed(duration) :
      Effect.map(Random.next, (random) =>
        Duration.millis(failureDelay({
          delay: Duration.toMillis(duration),
          hint: input.retryAfter === undefined ? 0 : Duration.toMillis(input.retryAfter),
          timeLeft: Duration.toMillis(input.timeLeft),
          failures: attempt,
          random
        })))
  )
)

/**
 * A blocked credential that is being read is checked every 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const recheckBlocked: RefreshPolicy = Schedule.spaced("30 seconds")

/**
 * A ref that Aden does not list is remembered as missing for 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const rememberMissing: RefreshPolicy = Schedule.spaced("30 seconds")

/**
 * Whether a read waits for the refresh that it starts, although its token has not expired: a program that ends right after, such
 * as a command, wants the new token.
 *
 * @internal
 */
export const AwaitRefresh = Context.Reference<boolean>("aden-credentials/internal/AwaitRefresh", {
  defaultValue: () => false
})
