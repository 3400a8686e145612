/**
 * Checks of settings. An invalid one is an `AdenConfigError` that names it.
 */
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { AdenConfigError } from "../errors/ConfigError.ts"

/** A required setting is missing. `what` completes "Set it to …". */
export const missingSetting = (setting: string, what: string): AdenConfigError =>
  new AdenConfigError({ setting, detail: "is not set", remedy: `Set it to ${what}.` })

/** A setting that its source does not give, without what it holds. */
export const unreadableSetting = (setting: string): AdenConfigError =>
  new AdenConfigError({ setting, detail: "cannot be read", remedy: "Check where settings are read from." })

/** A whole number above zero, given as an option. */
export const countSetting = (setting: string, count: number, remedy: string): Effect.Effect<number, AdenConfigError> =>
  Number.isSafeInteger(count) && count > 0
    ? Effect.succeed(count)
    : Effect.fail(new AdenConfigError({ setting, detail: "is not a whole number above zero", remedy }))

/** A duration given as an option: a finite time above zero, or also zero where `isZeroAllowed`. */
export const durationSetting = (
  setting: string,
  input: Duration.Input,
  options?: { readonly isZeroAllowed: true }
): Effect.Effect<Duration.Duration, AdenConfigError> => {
  const duration = typeof input === "number" && !Number.isFinite(input) ? Option.none() : Duration.fromInput(input)
  const isZeroAllowed = options?.isZeroAllowed === true
  const isInRange = (duration: Duration.Duration) =>
    Duration.isFinite(duration) && (Duration.isPositive(duration) || (isZeroAllowed && Duration.isZero(duration)))
  return Option.isSome(duration) && isInRange(duration.value)
    ? Effect.succeed(duration.value)
    : Effect.fail(
      new AdenConfigError({
        setting,
        detail: isZeroAllowed ? "is not a finite time of zero or more" : "is not a finite time above zero",
        remedy: `Give ${setting} as a duration such as "30 seconds".`
      })
    )
}
