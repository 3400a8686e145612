import { assert, describe, it } from "@effect/vitest"
import { DateTime, Effect, Option, Schema } from "effect"
import { formatTimestamp, isZeroTime, parseTimestamp, Timestamp } from "../../src/util/Timestamp.ts"

const millisOf = (text: string) => Option.getOrUndefined(Option.map(parseTimestamp(text), DateTime.toEpochMillis))

/** Any millisecond from the year 0 to the year 9999. */
const Millis = Schema.Int.check(Schema.isBetween({ minimum: -62_167_219_200_000, maximum: 253_402_300_799_999 }))

const pad = (number: number) => String(number).padStart(2, "0")

describe("parseTimestamp", () => {
  it.effect.prop(
    "reads what formatTimestamp writes",
    [Millis],
    ([millis]) => Effect.sync(() => assert.strictEqual(millisOf(formatTimestamp(DateTime.makeUnsafe(millis))), millis))
  )

  it.effect.prop(
    "an offset is taken off the local time",
    [Millis, Schema.Int.check(Schema.isBetween({ minimum: -1439, maximum: 1439 }))],
    ([millis, minutes]) =>
      Effect.sync(() => {
        const local = DateTime.formatIso(DateTime.makeUnsafe(millis)).slice(0, -1)
        const size = Math.abs(minutes)
        const offset = `${minutes < 0 ? "-" : "+"}${pad(Math.floor(size / 60))}:${pad(size % 60)}`
        assert.strictEqual(millisOf(local + offset), millis - minutes * 60_000)
        assert.strictEqual(millisOf(local + offset.replace(":", "")), millis - minutes * 60_000)
      })
  )

  it.effect.prop(
    "whatever else is text is refused or is a date that exists, and never throws",
    [Schema.String],
    ([text]) =>
      Effect.sync(() => {
        const parsed = parseTimestamp(text)
        if (Option.isSome(parsed)) assert.match(text, /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d/)
      })
  )

  it.each([
    ["2026-01-28T15:30:00Z", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28t15:30:00z", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28 15:30:00Z", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28T15:30:00", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28T15:30:00.1", "2026-01-28T15:30:00.100Z"],
    ["2026-01-28T15:30:00.123456789Z", "2026-01-28T15:30:00.123Z"],
    ["2026-01-28T15:30:00.999999+00:00", "2026-01-28T15:30:00.999Z"],
    ["2026-01-28T23:30:00-05:00", "2026-01-29T04:30:00.000Z"],
    ["2026-01-01T00:30:00+01:00", "2025-12-31T23:30:00.000Z"],
    ["2026-01-28T15:30:00+0000", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28T15:30:00+00", "2026-01-28T15:30:00.000Z"],
    ["2026-01-28T23:30:00.5-05", "2026-01-29T04:30:00.500Z"],
    ["2026-01-28T21:00:00+0530", "2026-01-28T15:30:00.000Z"],
    ["2024-02-29T00:00:00Z", "2024-02-29T00:00:00.000Z"]
  ])("%s", (text, expected) => assert.strictEqual(millisOf(text), Date.parse(expected)))

  it.each([
    "",
    "2026-01-28",
    "15:30:00Z",
    "2026-01-28T15:30Z",
    "2026-02-29T00:00:00Z",
    "2026-02-30T00:00:00Z",
    "2026-13-01T00:00:00Z",
    "2026-00-10T00:00:00Z",
    "2026-01-00T00:00:00Z",
    "2026-01-28T24:00:00Z",
    "2026-01-28T15:60:00Z",
    "2026-01-28T15:30:61Z",
    "2026-01-28T15:30:00+24:00",
    "2026-01-28T15:30:00+01:60",
    "2026-01-28T15:30:00+2400",
    "2026-01-28T15:30:00+0160",
    "2026-01-28T15:30:00+24",
    "2026-01-28T15:30:00+1",
    "2026-01-28T15:30:00+010",
    "2026-01-28T15:30:00+01:",
    "2026-01-28T15:30:00+01:0",
    "2026-01-28T15:30:00 +0100",
    "2026-01-28T15:30:00 Z",
    " 2026-01-28T15:30:00Z",
    "2026-01-28T15:30:00Z\n",
    "2026-01-28T15:30:00.Z",
    "2026-01-28T15:30:00,5Z",
    "20260128T153000Z",
    "+12026-01-28T15:30:00Z",
    "2026-01-28T15:30:00Z[UTC]",
    "Wed, 28 Jan 2026 15:30:00 GMT",
    "1769614200"
  ])("%j is refused", (text) => assert.strictEqual(millisOf(text), undefined))
})

describe("isZeroTime", () => {
  const isZero = (text: string) => Option.getOrUndefined(Option.map(parseTimestamp(text), isZeroTime))

  it.each([
    "0001-01-01T00:00:00Z",
    "0001-01-01T00:00:00",
    "0001-01-01T00:00:00+02:00",
    "0001-01-01T00:00:00-05:00",
    "1970-01-01T00:00:00Z",
    "1970-01-01T00:00:00.000+0000",
    "1970-01-01T01:00:00+01:00"
  ])("%s stands for none", (text) => assert.isTrue(isZero(text)))

  it.each([
    "1969-12-31T23:59:59Z",
    "1970-01-01T00:00:01Z",
    "1970-01-01T00:00:00-01:00",
    "0002-01-01T00:00:00Z",
    "2026-01-28T15:30:00Z"
  ])("%s is a time", (text) => assert.isFalse(isZero(text)))
})

describe("Timestamp", () => {
  it.effect("a text that is not a timestamp fails without repeating it", () =>
    Effect.gen(function*() {
      const error = yield* Effect.flip(Schema.decodeUnknownEffect(Timestamp)("not-a-date-hunter2"))
      assert.include(error.message, "RFC 3339")
      assert.notInclude(error.message, "hunter2")
    }))

  it.effect("is written without a fraction where it is zero", () =>
    Effect.gen(function*() {
      const encode = (text: string) => Schema.encodeEffect(Timestamp)(DateTime.makeUnsafe(text))
      assert.strictEqual(yield* encode("2026-01-28T15:30:00Z"), "2026-01-28T15:30:00Z")
      assert.strictEqual(yield* encode("2026-01-28T15:30:00.050Z"), "2026-01-28T15:30:00.050Z")
    }))
})
