import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import { AdenConfigError } from "../CredentialError.ts"

/** A duration given as an option, refused with the option's name unless it is a finite time above zero. */
export const durationSetting = (
  setting: string,
  input: Duration.Input
): Effect.Effect<Duration.Duration, AdenConfigError> => {
  const duration = typeof input === "number" && !Number.isFinite(input) ? Option.none() : Duration.fromInput(input)
  return Option.isSome(duration) && Duration.isFinite(duration.value) && Duration.isPositive(duration.value)
    ? Effect.succeed(duration.value)
    : Effect.fail(
      new AdenConfigError({
        setting,
        detail: "is not a finite time above zero",
        remedy: `Give ${setting} as a duration such as "30 seconds".`
      })
    )
}
