/**
 * Times and durations for people.
 */
import * as DateTime from "effect/DateTime"
import * as Duration from "effect/Duration"

const units: ReadonlyArray<readonly [name: string, ms: number]> = [
  ["d", 86_400_000],
  ["h", 3_600_000],
  ["min", 60_000]
]

/** In the largest unit that fits, rounded down: `4 min`. */
export const durationText = (duration: Duration.Duration): string => {
  const ms = Duration.toMillis(duration)
  const [name, size] = units.find(([, size]) => ms >= size) ?? ["s", 1_000]
  return `${Math.floor(ms / size)} ${name}`
}

/** Like `durationText`, but in milliseconds below a second: `120 ms`. */
export const latencyText = (duration: Duration.Duration): string =>
  Duration.toMillis(duration) < 1_000 ? `${Math.round(Duration.toMillis(duration))} ms` : durationText(duration)

/** A time relative to now: `in 4 min`, `2 h ago`. */
export const timeText = (time: DateTime.Utc, now: DateTime.Utc): string =>
  DateTime.isLessThanOrEqualTo(time, now)
    ? `${durationText(DateTime.distance(time, now))} ago`
    : `in ${durationText(DateTime.distance(now, time))}`

/** When a token expires; `never` where `expiresAt` is `undefined`. */
export const expiryText = (expiresAt: DateTime.Utc | undefined, now: DateTime.Utc): string =>
  expiresAt === undefined ? "never" : timeText(expiresAt, now)

/** The same within a sentence. */
export const expirySentence = (expiresAt: DateTime.Utc | undefined, now: DateTime.Utc): string =>
  expiresAt === undefined
    ? "does not expire"
    : `${DateTime.isLessThanOrEqualTo(expiresAt, now) ? "expired" : "expires"} ${timeText(expiresAt, now)}`
