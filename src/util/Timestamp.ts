import * as DateTime from "effect/DateTime"
import * as Effect from "effect/Effect"
import * as Option from "effect/Option"
import * as Schema from "effect/Schema"
import * as SchemaGetter from "effect/SchemaGetter"
import * as SchemaIssue from "effect/SchemaIssue"

const pattern = /^(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d(?::?\d\d)?)?$/

/**
 * Parses RFC 3339 with `Z`, an offset, or no zone, which counts as UTC; fractional seconds are allowed, and so are the offsets
 * of ISO 8601 (`+0000`, `+00`). A date that does not exist is refused (`Date.parse` would move it into the next month).
 */
export const parseTimestamp = (text: string): Option.Option<DateTime.Utc> => {
  const match = pattern.exec(text)
  if (match === null) return Option.none()
  const [, year, month, day, hour, minute, second, fraction = "", zone = "Z"] = match
  const milliseconds = fraction.slice(0, 3).padEnd(3, "0")
  const local = `${year}-${month}-${day}T${hour}:${minute}:${second}.${milliseconds}Z`
  return DateTime.make(local).pipe(
    Option.filter((utc) => DateTime.formatIso(utc) === local),
    Option.flatMap((utc) => {
      if (zone === "Z" || zone === "z") return Option.some(DateTime.toUtc(utc))
      const hours = Number(zone.slice(1, 3))
      const minutes = Number(zone.slice(3).replace(":", ""))
      if (hours > 23 || minutes > 59) return Option.none()
      const offset = (zone.startsWith("-") ? -1 : 1) * (hours * 60 + minutes)
      return Option.some(DateTime.toUtc(DateTime.subtract(utc, { minutes: offset })))
    })
  )
}

/** Whether a time stands for none, as an unset time is written by Go and .NET (the year 1) or by Java and C (the Unix epoch). */
export const isZeroTime = (time: DateTime.Utc): boolean =>
  DateTime.toEpochMillis(time) === 0 || DateTime.getPartUtc(time, "year") <= 1

/** RFC 3339 in UTC, without a fraction where it is zero: `2026-01-28T15:30:00Z`. */
export const formatTimestamp = (time: DateTime.Utc): string => DateTime.formatIso(time).replace(".000Z", "Z")

/** A timestamp on the wire or in a file, see {@link parseTimestamp}. */
export const Timestamp = Schema.String.pipe(
  Schema.decodeTo(Schema.DateTimeUtc, {
    decode: SchemaGetter.transformEffect((text: string) =>
      Option.match(parseTimestamp(text), {
        onNone: () => Effect.fail(new SchemaIssue.InvalidValue({ message: "Expected an RFC 3339 timestamp" })),
        onSome: Effect.succeed
      })
    ),
    encode: SchemaGetter.transform(formatTimestamp)
  })
).annotate({ identifier: "Timestamp", description: "RFC 3339; without a zone it is read as UTC" })
