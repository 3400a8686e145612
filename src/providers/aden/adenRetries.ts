import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import * as Schedule from "effect/Schedule"
import type { AdenFailure } from "../../errors/CredentialError.ts"

/** How the client tries again by itself: a hint of Aden's is a floor under the schedule's delays. */
export const adenRetries = (schedule: Schedule.Schedule<unknown, AdenFailure>, maxRetryAfter: Duration.Duration) => ({
  schedule: Schedule.modifyDelay(
    schedule,
    ({ duration, input }) =>
      Effect.succeed(input._tag === "RateLimited" ? Duration.max(duration, input.retryAfter) : duration)
  ),
  while: (error: AdenFailure): boolean => isTransient(error, maxRetryAfter)
})

const isTransient = (error: AdenFailure, maxRetryAfter: Duration.Duration): boolean => {
  if (error._tag === "RateLimited") return Duration.isLessThanOrEqualTo(error.retryAfter, maxRetryAfter)
  if (error._tag !== "AdenUnavailable") return false
  switch (error.reason._tag) {
    case "AdenConnectionFailed":
    case "AdenTimeout":
      return true
    case "AdenProtocolError":
      return error.reason.isTransient
    case "AdenCircuitOpen":
      return false
  }
}
