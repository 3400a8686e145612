/**
 * When Aden may be asked again. A policy is a `Schedule` that is stepped once per outcome; its delay is the time until the next
 * question, and a schedule that has ended means: not until somebody asks explicitly. See docs/semantics.md.
 *
 * @since 0.1.0
 */
import * as Duration from "effect/Duration"
import * as Schedule from "effect/Schedule"

/**
 * What came of asking Aden: a new token, the same token confirmed, no answer or a refusal (by the tag of the error), or that
 * a person has to authorize again.
 *
 * @since 0.1.0
 * @category models
 */
export type RefreshOutcome =
  | { readonly _tag: "Fetched" }
  | { readonly _tag: "Confirmed" }
  | { readonly _tag: "Failed"; readonly error: string }
  | { readonly _tag: "Blocked" }

/**
 * When Aden may be asked again about a credential: the delay of each step, until the next question.
 *
 * @since 0.1.0
 * @category models
 */
export type RefreshPolicy = Schedule.Schedule<unknown, RefreshOutcome>

/**
 * After failures: exponential from 5 seconds, factor 2, at most 5 minutes, jittered. A success starts it anew.
 *
 * @since 0.1.0
 * @category policies
 */
export const backOff: RefreshPolicy = Schedule.min([
  Schedule.exponential("5 seconds"),
  Schedule.spaced("5 minutes")
]).pipe(Schedule.jittered)

/**
 * How often a blocked credential is checked again while it is read: every 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const recheckBlocked: Duration.Duration = Duration.seconds(30)

/**
 * How long a ref that Aden does not list is remembered as missing: 30 seconds.
 *
 * @since 0.1.0
 * @category policies
 */
export const missingTtl: Duration.Duration = Duration.seconds(30)
