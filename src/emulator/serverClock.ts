/**
 * The clock of the emulated server: Effect's `Clock`, shifted by a fault.
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

/** A time in whole seconds, as in the contract's examples: some programs read no other form. */
export const wholeSecond = (time: DateTime.Utc): DateTime.Utc => DateTime.startOf(time, "second")
