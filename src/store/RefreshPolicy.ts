/**
 * When Aden may be asked again. A policy is a `Schedule` that is stepped once per outcome. Its delay is the time until the next
 * request; after a schedule has ended, there is none until a program asks explicitly. Each credential has schedules of its own.
 * See docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Context from "effect/Context"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Random from "effect/Random"
import type * as Redacted from "effect/Redacted"
import * as Schedule from "effect/Schedule"
import { backoffDelay, refreshLead } from "../model/freshness.ts"

/**
 * The outcome of a request to Aden:
 *
 * - `Fetched`: a token. `timeLeft` until it expires (infinite if it does not), `life` from its first receipt to its expiry if
 *   known, and the provider's `buffer`.
 * - `Confirmed`: Aden confirmed the credential.
 * - `Failed`: no answer, or a refusal, with the tag of the error. `retryAfter` is how long Aden must not be asked (429);
 *   `timeLeft` until the current token expires, zero if it has expired or there is none.
 * - `Blocked`: a person has to authorize again.
 * - `Missing`: Aden does not list the credential.
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
 * @example
 * ```ts
 * import { backOff, confirmWithin, CredentialStore } from "aden-credentials"
 * import { Duration, Effect, Schedule } from "effect"
 *
 * const Credentials = CredentialStore.layer({
 *   policy: {
 *     confirm: confirmWithin("1 minute"),
 *     backOff: Schedule.modifyDelay(backOff, ({ duration }) => Effect.succeed(Duration.max(duration, Duration.seconds(30))))
 *   }
 * })
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export interface RefreshPolicies {
  /** Stepped on `Fetched`: when the token is refreshed. {@link renewInTime} by default. */
  readonly renew: RefreshPolicy
  /** Stepped on `Confirmed`: when Aden is asked to confirm the credential. {@link confirmWithin} `cacheTtl` by default. */
  readonly confirm: RefreshPolicy
  /** Stepped on `Failed`: when Aden is asked again. {@link backOff} by default. */
  readonly backOff: RefreshPolicy
  /** Stepped on `Blocked`: when a read re-checks a blocked credential. {@link recheckBlocked} by default. */
  readonly recheck: RefreshPolicy
  /** Stepped on `Missing`: how long a ref is remembered as missing. {@link rememberMissing} by default. */
  readonly missing: RefreshPolicy
}

/** The policies that keep nothing from one step to the next. */
const memoryless = new WeakSet<RefreshPolicy>()

/**
 * Marks a policy whose delay depends on the outcome only: one step of it serves all credentials.
 *
 * @internal
 */
export const withoutMemory = (policy: RefreshPolicy): RefreshPolicy => {
  memoryless.add(policy)
  return policy
}

/**
 * Whether one step of a policy serves all credentials.
 *
 * @internal
 */
export const isMemoryless = (policy: RefreshPolicy): boolean => memoryless.has(policy)

/**
 * A policy with delays of at most this long.
 *
 * @internal
 */
export const atMost = (policy: RefreshPolicy, maximum: Duration.Duration): RefreshPolicy => {
  const limited = Schedule.modifyDelay(policy, ({ duration }) => Effect.succeed(Duration.min(duration, maximum)))
  return isMemoryless(policy) ? withoutMemory(limited) : limited
}

/**
 * Refreshes a token before it expires, by the provider's buffer times a factor between 0.8 and 1.2 that is drawn once per
 * token, but never in the first half of the token's life. A token that does not expire is never refreshed.
 *
 * @since 0.1.0
 * @category policies
 */
export const renewInTime: RefreshPolicy = withoutMemory(Schedule.forever.pipe(
  Schedule.setInputType<RefreshOutcome>(),
  Schedule.modifyDelay(({ input }) => {
    if (input._tag !== "Fetched" || !Duration.isFinite(input.timeLeft)) return Effect.succeed(Duration.infinity)
    const { buffer, life, timeLeft } = input
    return Effect.map(Random.next, (random) => {
      const lead = refreshLead({
        buffer: Duration.toMillis(buffer),
        lifetime: life === undefined ? undefined : Duration.toMillis(life),
        jitter: 0.8 + 0.4 * random
      })
      return Duration.millis(Math.max(0, Duration.toMillis(timeLeft) - lead))
    })
  })
))

/**
 * Refreshes a token only once it has expired.
 *
 * @internal
 */
export const renewNever: RefreshPolicy = withoutMemory(Schedule.recurs(0))

/**
 * Confirms a credential `cacheTtl` after the last confirmation, or up to a fifth earlier. The factor is drawn each time, so
 * that clients that were once answered at the same moment, after an outage or a common start, spread out again.
 *
 * @since 0.1.0
 * @category policies
 */
export const confirmWithin = (cacheTtl: Duration.Input): RefreshPolicy =>
  withoutMemory(
    Schedule.spaced(cacheTtl).pipe(
      Schedule.modifyDelay(({ duration }) =>
        Effect.map(Random.next, (random) => Duration.times(duration, 0.8 + 0.2 * random))
      )
    )
  )

/**
 * Exponential back-off after failures: from 5 seconds, factor 2, at most 5 minutes, jittered. A success resets it. For a fleet
 * of clients that lose the same Aden:
 *
 * - A delay takes at most three quarters of the time that the current token has left (but at least 1 second), so that no token
 *   expires because its client still waits when Aden is back.
 * - `retryAfter` is a lower bound. A client that fails again adds a random delay of up to the length of `retryAfter` (within 1
 *   to 5 minutes), so that clients which Aden gave the same time do not keep asking at the same time.
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
        Duration.millis(backoffDelay({
          delay: Duration.toMillis(duration),
          hint: input.retryAfter === undefined ? 0 : Duration.toMillis(input.retryAfter),
          timeLeft: Duration.toMillis(input.timeLeft),
          failures: attempt,
          random
        })))
  )
)

/**
 * Re-checks a blocked credential that is being read every 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const recheckBlocked: RefreshPolicy = withoutMemory(Schedule.spaced("30 seconds"))

/**
 * Remembers a ref that Aden does not list as missing for 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const rememberMissing: RefreshPolicy = withoutMemory(Schedule.spaced("30 seconds"))

/**
 * Whether a read waits for the refresh that it starts although its token has not expired: a program that ends right after, such
 * as a command, needs the new token, and a storage answers what it has stored.
 *
 * @internal
 */
export const AwaitRefresh = Context.Reference<boolean>("aden-credentials/internal/AwaitRefresh", {
  defaultValue: () => false
})

/**
 * The token that a forced refresh is to replace, because an API refused it: what another process has stored in its place is an answer
 * then, and Aden is not asked. Without it, a forced refresh always asks Aden.
 *
 * @internal
 */
export const ReplacedToken = Context.Reference<Redacted.Redacted<string> | undefined>(
  "aden-credentials/internal/ReplacedToken",
  { defaultValue: () => undefined }
)
