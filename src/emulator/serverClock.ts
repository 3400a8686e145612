/**
 * The emulated server's clock: Effect's, and as far off as a fault says.
 */
import * as Context from "effect/Context"
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"

// not a `Clock` of its own: handlers run with the services of the layer they were built in, where a test's clock would win
/** How far the server's clock is ahead of Effect's while the request is answered. */
export const ServerClockOffset = Context.Reference<Duration.Duration>("aden-credentials/emulator/ServerClockOffset", {
  defaultValue: () => Duration.zero
})

/** The time at the server. */
export const serverNow: Effect.Effect<DateTime.Utc> = Effect.zipWith(
  DateTime.now,
  ServerClockOffset,
  (now, offset) => DateTime.addDuration(now, offset)
)

/** A time as the contract's examples have it: programs exist that read no other. */
export const wholeSecond = (time: DateTime.Utc): DateTime.Utc => DateTime.startOf(time, "second")
